import { X } from "lucide-react";
import type { Picture } from "../chat/types";

interface PicturesProps {
  readonly pictures: readonly Picture[];
  readonly onRemove?: (id: string) => void;
}

/** The pictures of a question. */
export function Pictures({ pictures, onRemove }: PicturesProps) {
  if (pictures.length === 0) return null;
  return (
    <ul className="pictures" aria-label="Pictures">
      {pictures.map(({ id, name, url, width, height }) => (
        <li key={id} className="picture">
          <img src={url} alt={name} width={width} height={height} />
          {onRemove && (
            <button
              type="button"
              className="picture__remove"
              aria-label={`Remove ${name}`}
              onClick={() => {
                onRemove(id);
              }}
            >
              <X aria-hidden="true" />
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}
