// Dark, light, or as the system has it.
import { announce, byId } from "./dom";

const NAME = "runyard.theme";
const ORDER = ["system", "light", "dark"] as const;
type Theme = (typeof ORDER)[number];

function kept(): Theme {
  try {
    const found = localStorage.getItem(NAME) as Theme | null;
    return found && ORDER.includes(found) ? found : "system";
  } catch {
    return "system";
  }
}

function use(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  const button = byId("theme");
  button.dataset["theme"] = theme;
  button.setAttribute("aria-label", `Colours: ${theme}. Change`);
  button.title = `Colours: ${theme}`;
}

export function initTheme(): void {
  let theme = kept();
  use(theme);
  byId("theme").addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length]!;
    use(theme);
    announce(`Colours: ${theme}`);
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // It holds for as long as the page is open.
    }
  });
}
