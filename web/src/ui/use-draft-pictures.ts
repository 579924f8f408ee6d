import { useState } from "react";
import { MOST_PICTURES, readPicture } from "../app/pictures";
import type { Picture } from "../chat/types";

export interface DraftPictures {
  readonly pictures: readonly Picture[];
  /** Why the last file was not taken; "" when it was. */
  readonly trouble: string;
  readonly add: (files: Iterable<File>) => void;
  readonly remove: (id: string) => void;
  readonly clear: () => void;
}

/** The pictures that will go with the next question. */
export function useDraftPictures(): DraftPictures {
  const [pictures, setPictures] = useState<readonly Picture[]>([]);
  const [trouble, setTrouble] = useState("");
  const addOne = async (file: File): Promise<void> => {
    try {
      const picture = await readPicture(file);
      setPictures((before) => [...before, picture].slice(0, MOST_PICTURES));
    } catch (error) {
      setTrouble((error as Error).message);
    }
  };
  return {
    pictures,
    trouble,
    add: (files) => {
      const list = [...files];
      const room = MOST_PICTURES - pictures.length;
      setTrouble(list.length > room ? `A question takes up to ${MOST_PICTURES} pictures.` : "");
      for (const file of list.slice(0, room)) void addOne(file);
    },
    remove: (id) => {
      setTrouble("");
      setPictures((before) => before.filter((picture) => picture.id !== id));
    },
    clear: () => {
      setTrouble("");
      setPictures([]);
    },
  };
}
