// The switches at the foot of each page: theme and times.
import { chooseTimes, timesChosen } from "./moments.js";

const KEY = "level5.theme";
const THEMES = ["auto", "light", "dark"];

export function dressSwitches() {
  const place = document.querySelector("[data-switches]");
  if (!place) return;
  place.append(cycle("Theme", THEMES, themeChosen(), chooseTheme), cycle("Times", ["UTC", "local"], timesChosen() === "local" ? "local" : "UTC", (word) => chooseTimes(word.toLowerCase())));
}

function themeChosen() {
  return document.documentElement.dataset.theme ?? "auto";
}

function chooseTheme(theme) {
  try {
    if (theme === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Holds for this page alone.
  }
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function cycle(name, words, chosen, choose) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button-link";
  button.textContent = `${name}: ${chosen}`;
  button.addEventListener("click", () => {
    chosen = words[(words.indexOf(chosen) + 1) % words.length];
    button.textContent = `${name}: ${chosen}`;
    choose(chosen);
  });
  return button;
}
