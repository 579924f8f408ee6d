/** A random id of 96 bits. (crypto.randomUUID is missing where the page is served over plain HTTP to a LAN.) */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
