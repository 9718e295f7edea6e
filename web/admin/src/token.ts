// The token: for this tab, or on this device if that is asked for. It never enters a link or a log.

const NAME = "runyard.token";

function read(storage: () => Storage): string | null {
  try {
    return storage().getItem(NAME);
  } catch {
    return null; // a browser that keeps nothing
  }
}

let held = read(() => sessionStorage) ?? read(() => localStorage) ?? "";

export const token = {
  get: (): string => held,

  remembered: (): boolean => read(() => localStorage) !== null,

  set(value: string, remember: boolean): void {
    held = value;
    for (const [storage, wanted] of [[() => sessionStorage, !remember], [() => localStorage, remember]] as const) {
      try {
        if (wanted && value) storage().setItem(NAME, value);
        else storage().removeItem(NAME);
      } catch {
        // It is held for as long as the page is open.
      }
    }
  },

  /** Return enough of the token to recognise it, and no more. */
  hint: (): string => (held.length > 4 ? `…${held.slice(-3)}` : "set"),
};
