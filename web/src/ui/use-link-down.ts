import { useEffect, useState } from "react";
import { linkClock } from "../network/shaped";
import { useApp } from "./context";

const LOOK_EVERY_MS = 60;

/** Whether the emulated link is in an outage at this moment. */
export function useLinkDown(emulated: boolean): boolean {
  const { network } = useApp();
  const [down, setDown] = useState(false);
  useEffect(() => {
    if (!emulated) return;
    const timer = setInterval(() => {
      setDown(network.link?.isUp(linkClock()) === false);
    }, LOOK_EVERY_MS);
    return () => {
      clearInterval(timer);
    };
  }, [emulated, network]);
  return emulated && down;
}
