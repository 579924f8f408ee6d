import { describe, expect, it } from "vitest";
import { conversationOf, fragmentOf } from "../src/app/address";

describe("the address", () => {
  it.each(["6f1a", null])("names %j and gives it back", (id) => {
    expect(conversationOf(fragmentOf(id))).toBe(id);
  });

  it("leaves fragments of another kind alone", () => {
    expect(conversationOf("#message")).toBeUndefined();
  });
});
