import { ImagePlus } from "lucide-react";
import { useRef } from "react";

interface AttachButtonProps {
  /** False: the model says that it takes none. */
  readonly enabled: boolean;
  readonly onFiles: (files: Iterable<File>) => void;
}

export function AttachButton({ enabled, onFiles }: AttachButtonProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        accept="image/*"
        multiple
        hidden
        aria-label="Pictures to attach"
        onChange={(event) => {
          onFiles(event.target.files ?? []);
          event.target.value = "";
        }}
      />
      <button
        type="button"
        className="icon-button composer__attach"
        aria-label="Attach pictures"
        title={enabled ? "Attach pictures" : "This model reads no pictures"}
        disabled={!enabled}
        onClick={() => input.current?.click()}
      >
        <ImagePlus aria-hidden="true" />
      </button>
    </>
  );
}
