// Tabs as the ARIA practices have them: arrows move, the chosen one is in the tab order.

export function makeTabs(list: HTMLElement, chosen: (name: string) => void = () => {}): (name: string) => void {
  const tabs = [...list.querySelectorAll<HTMLButtonElement>("[role=tab]")];
  const panelOf = (tab: HTMLElement): HTMLElement | null =>
    document.getElementById(tab.getAttribute("aria-controls") ?? "");
  const select = (tab: HTMLButtonElement): void => {
    for (const other of tabs) {
      const on = other === tab;
      other.setAttribute("aria-selected", String(on));
      other.tabIndex = on ? 0 : -1;
      const panel = panelOf(other);
      if (panel) panel.hidden = !on;
    }
    chosen(tab.dataset["tab"] ?? "");
  };
  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -n, End: tabs.length - 1 - n }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = tabs[(n + step + tabs.length) % tabs.length]!;
      select(next);
      next.focus();
    });
  });
  return (name) => {
    const tab = tabs.find((one) => one.dataset["tab"] === name);
    if (tab) select(tab);
  };
}
