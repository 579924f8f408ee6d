import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { startApp } from "./app/app";
import "./styles/index.css";
import { loadMarkdown } from "./ui/AnswerText";
import { AppContext } from "./ui/context";
import { Page } from "./ui/Page";
import { applyTheme } from "./ui/theme";

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no element #root.");

const app = startApp();
applyTheme(app.preferences.get().theme);
app.preferences.subscribe(() => {
  applyTheme(app.preferences.get().theme);
});

createRoot(root).render(
  <StrictMode>
    <AppContext value={app}>
      <Page />
    </AppContext>
  </StrictMode>,
);

// Where it fails, answers are shown as they are.
loadMarkdown().catch(() => undefined);
