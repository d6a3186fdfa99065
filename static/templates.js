// The template editor and the brand page beyond htmx: line numbers, putting names in, the preview's frame.
// Event delegation only; text is written as text. Without this file both pages still work.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Line numbers beside each text, a mark at those with problems. The lines do not wrap, so both scroll alike.
  const number = (gutter) => {
    const area = $(gutter.dataset.gutter);
    if (!area) return;
    const bad = new Map(all(`#${area.id}-problems [data-line]`).map((link) => [Number(link.dataset.line), link.closest("li").className]));
    const lines = area.value.split("\n").length, key = `${lines} ${[...bad].join()}`;
    if (gutter.dataset.key !== key || !gutter.firstChild) {
      const parts = [];
      let from = 1;
      const plain = (to) => { if (to >= from) parts.push(Array.from({ length: to - from + 1 }, (_, n) => from + n).join("\n") + "\n"); };
      for (const [line, kind] of [...bad].sort((a, b) => a[0] - b[0])) {
        if (line < from || line > lines) continue;
        plain(line - 1);
        const mark = document.createElement("b");
        mark.className = kind;
        mark.textContent = `${kind === "warn" ? "▵" : "✕"} ${line}\n`;
        parts.push(mark);
        from = line + 1;
      }
      plain(lines);
      gutter.replaceChildren(...parts);
      gutter.dataset.key = key;
    }
    gutter.scrollTop = area.scrollTop;
  };
  const numberAll = () => {
    all("[data-gutter]").forEach(number);
    all("#template-form .problems").forEach((list) => {
      const field = $(list.id.replace("-problems", ""));
      if (list.querySelector(".bad")) field?.setAttribute("aria-invalid", "true"); else field?.removeAttribute("aria-invalid");
    });
  };

  // Where names go in: the text that was used last.
  let last = "html";
  const takes = ["subject", "preheader", "html", "text"];
  const insert = ({ insert: code, into }) => {
    const field = $(into ?? last);
    field.focus();
    // The only way that a press of Ctrl+Z takes back.
    if (!document.execCommand("insertText", false, code)) {
      field.setRangeText(code, field.selectionStart, field.selectionEnd, "end");
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  const goTo = (link) => {
    const field = $(link.hash.slice(1)), line = Number(link.dataset.line || 1);
    if (!field) return;
    const before = field.value.split("\n").slice(0, line - 1).join("\n");
    const at = Math.min(before.length + (line > 1 ? 1 : 0), field.value.length);
    field.focus();
    field.setSelectionRange(at, at);
    if (field.matches("textarea")) field.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(field).lineHeight));
  };

  // The preview: the form's fields, posted into a new frame that is shown when it has loaded. So the old mail stands
  // until then, nothing flashes, and going back leads to the page before this one.
  let coming = null;
  const show = () => {
    const box = document.querySelector("[data-preview]"), form = box && $(box.dataset.preview);
    if (!form) return;
    const stage = box.querySelector(".stage"), old = stage.querySelector("iframe:not([data-coming])"), frame = old.cloneNode();
    coming?.remove();
    coming = frame;
    frame.removeAttribute("src");
    frame.name = `mail-${performance.now()}`;
    frame.dataset.coming = "";
    stage.append(frame);
    frame.addEventListener("load", () => {
      if (coming !== frame) return;
      delete frame.dataset.coming;
      old.remove();
      coming = null;
    });
    const { action, target } = form;
    form.action = box.dataset.url;
    form.target = frame.name;
    form.submit();
    form.action = action;
    form.target = target;
  };
  const stale = () => {
    const state = $("mail-state");
    document.querySelector(".stage")?.classList.toggle("stale", !!state && !state.hasAttribute("data-fine"));
    return state && !state.hasAttribute("data-fine");
  };

  let timer = 0;
  document.addEventListener("input", (event) => {
    const field = event.target, gutter = document.querySelector(`[data-gutter="${CSS.escape(field.id || "-")}"]`);
    if (gutter) number(gutter);
    if (field.dataset.color) {
      const text = $(field.dataset.color);
      text.value = field.value;
      text.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (/^#[0-9a-f]{6}$/i.test(field.value ?? "")) {
      const swatch = document.querySelector(`[data-color="${CSS.escape(field.id)}"]`);
      if (swatch) swatch.value = field.value;
    }
    if (field.closest("form[data-live]")) { clearTimeout(timer); timer = setTimeout(show, 350); }
  });
  document.addEventListener("change", (event) => {
    if (event.target.name === "view" && !stale()) show();
    if (event.target.dataset.color) $(event.target.dataset.color).dispatchEvent(new Event("change", { bubbles: true }));
  });
  document.addEventListener("scroll", (event) => {
    const gutter = event.target.id && document.querySelector(`[data-gutter="${CSS.escape(event.target.id)}"]`);
    if (gutter) gutter.scrollTop = event.target.scrollTop;
  }, true);
  document.addEventListener("focusin", (event) => { if (takes.includes(event.target.id)) last = event.target.id; });
  document.addEventListener("click", (event) => {
    const name = event.target.closest?.("[data-insert]"), link = event.target.closest?.("a[data-line]");
    if (name) insert(name.dataset);
    if (link) { event.preventDefault(); goTo(link); }
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const target = event.detail.ctx?.target?.id;
    numberAll();
    if (["mail-state", "template-form", "brand-form"].includes(target) && !stale()) show();
  });

  const start = () => { numberAll(); stale(); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
