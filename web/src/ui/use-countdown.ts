import { useEffect, useState } from "react";

/** Whole seconds left of `seconds`, counted from the first time it is shown. */
export function useCountdown(seconds: number): number {
  const [until] = useState(() => performance.now() + seconds * 1000);
  const [left, setLeft] = useState(seconds);
  const running = left > 0;
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => {
      setLeft(Math.max(0, Math.ceil((until - performance.now()) / 1000)));
    }, 200);
    return () => {
      clearInterval(timer);
    };
  }, [running, until]);
  return left;
}
