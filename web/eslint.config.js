import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import globals from "globals";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/", "node_modules/"] },
  js.configs.recommended,
  {
    files: ["**/*.{ts,tsx}"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      globals: globals.browser,
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // `{ gone, ...rest }` is how a field is left out.
      "@typescript-eslint/no-unused-vars": ["error", { ignoreRestSiblings: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": "error",
    },
  },
  {
    files: ["src/**/*.tsx"],
    extends: [jsxA11y.flatConfigs.strict, reactHooks.configs.flat["recommended-latest"]],
  },
  {
    // The client library is meant to be lifted out and used alone: it imports nothing but itself.
    files: ["src/eloquent/**/*.ts"],
    rules: { "no-restricted-imports": ["error", { patterns: [{ regex: "^(?!\\./)" }] }] },
  },
  {
    // State and protocol never see the DOM or React: they run in Node under test.
    files: ["src/chat/**/*.ts", "src/openai/**/*.ts"],
    rules: { "no-restricted-imports": ["error", { patterns: ["react*", "../ui/*", "../app/*"] }] },
  },
);
