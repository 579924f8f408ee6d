import { newId } from "../chat/id";
import type { Picture } from "../chat/types";

/** Longest side in pixels; vision models scale larger pictures down themselves. */
const LONGEST_SIDE = 1536;
/** A picture that is no larger than this and of a common type is sent as it is. */
const SMALL_BYTES = 400_000;
const COMMON = ["image/png", "image/jpeg", "image/webp", "image/gif"];
export const MOST_PICTURES = 4;

/** @throws Error, in words for the user, when the file is no picture that the browser can read. */
export async function readPicture(file: File): Promise<Picture> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read.`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const asItIs = scale === 1 && file.size <= SMALL_BYTES && COMMON.includes(file.type);
  const blob = asItIs ? file : await redraw(bitmap, width, height);
  bitmap.close();
  return { id: newId(), name: file.name, url: await dataUrl(blob), width, height };
}

async function redraw(bitmap: ImageBitmap, width: number, height: number): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser cannot make the picture smaller.");
  // JPEG has no transparency: what is clear becomes white, not black.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => {
        if (blob) resolve(blob);
        else reject(new Error("This browser cannot make the picture smaller."));
      },
      "image/jpeg",
      0.86,
    );
  });
}

function dataUrl(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      resolve(reader.result as string);
    };
    reader.onerror = () => {
      reject(new Error("The picture could not be read."));
    };
    reader.readAsDataURL(blob);
  });
}
