// The editor: CodeMirror in a shadow root, where its styles are adopted sheets and so need no hole in the
// page's policy. Each language's grammar is fetched when it is first wanted.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import {
  bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, indentUnit, StreamLanguage,
  syntaxHighlighting,
} from "@codemirror/language";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import {
  drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags as t } from "@lezer/highlight";

type Loader = () => Promise<Extension>;

const GRAMMARS: Record<string, Loader> = {
  python: async () => (await import("@codemirror/lang-python")).python(),
  node: async () => (await import("@codemirror/lang-javascript")).javascript(),
  typescript: async () => (await import("@codemirror/lang-javascript")).javascript({ typescript: true }),
  rust: async () => (await import("@codemirror/lang-rust")).rust(),
  go: async () => (await import("@codemirror/lang-go")).go(),
  php: async () => (await import("@codemirror/lang-php")).php(),
  ruby: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/ruby")).ruby),
  bash: async () => StreamLanguage.define((await import("@codemirror/legacy-modes/mode/shell")).shell),
};
GRAMMARS["deno"] = GRAMMARS["bun"] = GRAMMARS["typescript"]!;

const UNIT: Record<string, string> = { python: "    ", rust: "    ", php: "    ", go: "\t" };

const colours = HighlightStyle.define([
  { tag: [t.keyword, t.modifier, t.operatorKeyword, t.controlKeyword], color: "var(--syn-keyword)" },
  { tag: [t.string, t.special(t.string), t.regexp, t.character], color: "var(--syn-string)" },
  { tag: [t.number, t.bool, t.null, t.atom, t.self], color: "var(--syn-number)" },
  { tag: [t.comment, t.meta], color: "var(--syn-comment)", fontStyle: "italic" },
  { tag: [t.function(t.variableName), t.function(t.propertyName), t.macroName], color: "var(--syn-function)" },
  { tag: [t.typeName, t.className, t.namespace], color: "var(--syn-type)" },
  { tag: [t.definition(t.variableName), t.propertyName, t.attributeName], color: "var(--syn-name)" },
  { tag: t.invalid, color: "var(--bad)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", fontSize: "var(--code-size)", color: "var(--ink)", backgroundColor: "transparent" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--accent)", padding: "10px 0" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--ink-3)", border: "none", paddingLeft: "4px" },
  ".cm-activeLine": { backgroundColor: "var(--line-now)" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--selection)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--match)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--match)", outline: "1px solid var(--line)" },
  ".cm-panels, .cm-tooltip": { backgroundColor: "var(--card)", color: "var(--ink)", borderColor: "var(--line)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-textfield": { backgroundColor: "var(--field)", borderColor: "var(--line)", color: "var(--ink)" },
  ".cm-button": { backgroundColor: "var(--field)", backgroundImage: "none", color: "var(--ink)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--field)", color: "var(--ink-2)", borderColor: "var(--line)" },
});

export interface Editor {
  text(): string;
  set(text: string): void;
  language(id: string): void;
  label(text: string): void;
  focus(): void;
}

/** An editor in `host`. `changed` is called when the user has typed. */
export function makeEditor(host: HTMLElement, changed: () => void): Editor {
  const root = host.attachShadow({ mode: "open" });
  const grammar = new Compartment();
  const naming = new Compartment();
  let wanted = "";
  let setting = false;
  const named = (text: string): Extension => EditorView.contentAttributes.of({ "aria-label": text, tabindex: "0" });

  const view = new EditorView({
    root,
    parent: root as unknown as Element,
    state: EditorState.create({
      extensions: [
        lineNumbers(), foldGutter(), highlightActiveLineGutter(), highlightSpecialChars(), history(),
        drawSelection(), indentOnInput(), bracketMatching(), closeBrackets(), autocompletion(),
        highlightActiveLine(), highlightSelectionMatches(), syntaxHighlighting(colours), look,
        EditorState.allowMultipleSelections.of(true),
        keymap.of([
          // Escape, then Tab, leaves the editor (CodeMirror's own way out for those who have no mouse).
          { key: "Mod-Enter", run: () => true },
          ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...foldKeymap,
          ...completionKeymap, indentWithTab,
        ]),
        grammar.of([]),
        naming.of(named("Program")),
        EditorView.updateListener.of((update) => {
          if (update.docChanged && !setting) changed();
        }),
      ],
    }),
  });

  return {
    text: () => view.state.doc.toString(),
    set(text) {
      setting = true;
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text }, selection: { anchor: 0 } });
      setting = false;
      view.scrollDOM.scrollTop = 0;
    },
    language(id) {
      if (wanted === id) return;
      wanted = id;
      const load = GRAMMARS[id];
      const use = (extension: Extension): void => {
        if (wanted !== id) return;
        view.dispatch({ effects: grammar.reconfigure([extension, indentUnit.of(UNIT[id] ?? "  ")]) });
      };
      if (!load) use([]);
      else load().then(use, () => use([])); // no colours are better than no editor
    },
    label: (text) => view.dispatch({ effects: naming.reconfigure(named(text)) }),
    focus: () => view.focus(),
  };
}
