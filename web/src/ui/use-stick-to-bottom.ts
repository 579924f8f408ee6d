import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

interface StickToBottom {
  readonly scroller: RefObject<HTMLElement | null>;
  readonly content: RefObject<HTMLDivElement | null>;
  readonly atBottom: boolean;
  readonly toBottom: () => void;
}

/** Distance in CSS pixels from the end that still counts as being there. */
const NEAR = 48;

/**
 * Keeps the end of a growing text in view for as long as the reader is there, and leaves a reader who has
 * scrolled up alone. A new `leaf` (something was asked) goes to the end in any case.
 */
export function useStickToBottom(leaf: string | null): StickToBottom {
  const scroller = useRef<HTMLElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const [atBottom, setAtBottom] = useState(true);

  const toBottom = useCallback(() => {
    const element = scroller.current;
    if (!element) return;
    stuck.current = true;
    element.scrollTop = element.scrollHeight;
  }, []);

  useEffect(() => {
    if (leaf !== null) toBottom();
  }, [leaf, toBottom]);

  useEffect(() => {
    const element = scroller.current;
    const grown = content.current;
    if (!element || !grown) return;
    const onScroll = (): void => {
      stuck.current = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      setAtBottom(leaf === null || stuck.current);
    };
    const observer = new ResizeObserver(() => {
      if (stuck.current && leaf !== null) element.scrollTop = element.scrollHeight;
      else onScroll();
    });
    observer.observe(grown);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
    };
  }, [leaf]);

  return { scroller, content, atBottom, toBottom };
}
