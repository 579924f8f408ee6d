import { useEffect, useState } from "react";

/** Whole seconds left of `seconds`, counted from the first time it is shown. */
export function useCountdown(seconds: number): number {
  const [until] = useState(() => performance.now() + seconds * 1000);
  const [left, setLeft] = useState(seconds);
  useEffect(() => {
    if (left <= 0) return;
    const timer = setTimeout(() => {
      setLeft(Math.max(0, Math.ceil((until - performance.now()) / 1000)));
    }, 250);
    return () => {
      clearTimeout(timer);
    };
  });
  return left;
}
