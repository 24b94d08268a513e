// The page: two languages, a text and its translation, and what the model did.

import { Server } from "./api.js";
import { Desk } from "./desk.js";
import { Languages } from "./languages.js";
import { Views } from "./views.js";

const by = (id) => document.getElementById(id);

function notice(text) {
  if (by("notice").textContent !== text) by("notice").textContent = text;
}

/** Ask for an API key; `message` tells why the one before will not do. */
function wantKey(message) {
  const dialog = by("key");
  if (message) by("key-hint").textContent = message;
  by("key-value").value = "";
  return new Promise((resolve) => {
    const done = () => {
      const key = by("key-value").value.trim();
      if (!key) return dialog.showModal(); // nothing here works without one
      dialog.removeEventListener("close", done);
      resolve(key);
    };
    dialog.addEventListener("close", done);
    dialog.showModal();
  });
}

const server = new Server({ notice, wantKey });
const views = new Views(server, by("tabs"), by("panels"));
const desk = new Desk(server, views, by, (code) => languages.detected(code));
const languages = new Languages(by, (pair) => desk.use(pair));
by("swap").addEventListener("click", () => {
  const text = desk.translated;
  languages.swap();
  if (text) desk.write(text);
});

const [known, settings] = await Promise.all([server.ask("languages"), server.ask("frontend/settings")]);
desk.limit = settings.charLimit;
languages.fill(known, settings.language);
views.select(0);
