import { type KeyboardEvent, useEffect, useRef } from "react";

interface GrowingTextAreaProps {
  readonly id?: string;
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly describedBy?: string;
  readonly focusOnMount?: boolean;
  readonly onChange: (value: string) => void;
  /** Enter without Shift, outside of an input method's composition. */
  readonly onEnter: () => void;
  readonly onEscape?: () => void;
  readonly onArrowUp?: () => void;
}

/** A text box as tall as its text; the copy of the text behind it (see composer.css) gives it its height. */
export function GrowingTextArea(props: GrowingTextAreaProps) {
  const { id, label, value, placeholder, describedBy, focusOnMount = false, onChange } = props;
  const ref = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    const area = ref.current;
    if (!focusOnMount || !area) return;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }, [focusOnMount]);

  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      props.onEnter();
    } else if (event.key === "Escape" && props.onEscape) {
      event.preventDefault();
      props.onEscape();
    } else if (event.key === "ArrowUp" && value === "" && props.onArrowUp) {
      event.preventDefault();
      props.onArrowUp();
    }
  };
  return (
    <div className="growing" data-text={`${value}\n`}>
      <textarea
        ref={ref}
        id={id}
        rows={1}
        enterKeyHint="send"
        aria-label={label}
        aria-describedby={describedBy}
        placeholder={placeholder}
        value={value}
        onChange={(event) => {
          onChange(event.target.value);
        }}
        onKeyDown={onKeyDown}
      />
    </div>
  );
}
