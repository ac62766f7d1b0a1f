// The token that the scheduler wants over TCP; at its socket it wants none.

import { find } from "./dom.js";

const KEY = "scheduler.token"; // of this tab, until it is closed

export const currentToken = () => sessionStorage.getItem(KEY);

/** `#token=…` is taken once, and does not stay in the address bar or in the history. */
export function takeTokenFromAddress() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const token = hash.get("token");
  if (token === null) return;
  sessionStorage.setItem(KEY, token);
  hash.delete("token");
  const rest = hash.size ? `#${hash}` : "";
  history.replaceState(null, "", location.pathname + location.search + rest);
}

let asking = null; // one question for all requests that were refused

/** Returns when there is another token than the one that was refused. */
export function askForToken(refused) {
  if (currentToken() !== refused) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    const dialog = find("token");
    const field = find("token-field");
    find("token-refused").hidden = refused === null;
    dialog.oncancel = (event) => event.preventDefault(); // nothing can be shown without it
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      field.value = "";
      asking = null;
      dialog.close();
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}
