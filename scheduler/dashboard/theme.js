// Light or dark: as the system has it, until somebody wants it otherwise.

import { find } from "./dom.js";

const KEY = "scheduler.theme";

export function themes() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  apply(localStorage.getItem(KEY));
  find("theme").onclick = () => {
    const current = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    const wanted = current === "dark" ? "light" : "dark";
    localStorage.setItem(KEY, wanted);
    apply(wanted);
  };
}
