// What the pages need beyond htmx. Event delegation only, so that swapped-in parts work without set-up;
// text is written as text, never as markup. Without this file every page still works.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (words) => { const live = $("live"); if (live) live.textContent = words; };

  // Unsaved changes: each control against what the server has stored (data-saved), not against its default,
  // because field checks and re-renders change the default. Custom rows compare as one list (data-rows).
  const rowsOf = (box) => {
    const values = (end) => all(`input[name$="-${end}"]`, box).map((input) => input.value);
    const keys = values("key"), texts = values("value");
    return JSON.stringify(keys.map((key, n) => [key, texts[n] ?? ""]).filter((row) => row[0] || row[1]));
  };
  const changed = (control, form) => {
    if (control.disabled) return false;
    if (control.hasAttribute("data-secret")) return control.value !== "";
    const saved = control.dataset.saved;
    if (saved === undefined) return false;
    if (control.type === "radio") {
      const first = form.querySelector(`input[type=radio][name="${CSS.escape(control.name)}"]`);
      return control === first && (form.elements[control.name].value ?? "") !== saved;
    }
    return (control.type === "checkbox" ? String(control.checked) : control.value.replace(/\r\n?/g, "\n")) !== saved;
  };
  const unsaved = (form) => [...form.elements].filter((control) => changed(control, form)).length
    + all("[data-rows]", form).filter((box) => rowsOf(box) !== JSON.stringify(JSON.parse(box.dataset.rows))).length;
  const unsavedIn = () => all("form[data-unsaved]").filter((form) => unsaved(form) > 0);
  const count = () => all("form[data-unsaved]").forEach((form) => {
    const bar = form.querySelector("[data-savebar]"), text = bar?.querySelector("[data-save-text]");
    if (!text) return;
    const n = unsaved(form);
    bar.classList.toggle("dirty", n > 0);
    text.textContent = n ? `${n} unsaved change${n === 1 ? "" : "s"}` : text.dataset.clean;
  });
  let leaving = false;
  addEventListener("beforeunload", (event) => { if (!leaving && unsavedIn().length) event.preventDefault(); });
  addEventListener("pageshow", () => { leaving = false; count(); });

  // The preview of the sender follows what is typed.
  const mirror = (input) => {
    if (!input.name) return;
    all(`[data-mirror="${CSS.escape(input.name)}"]`).forEach((out) => { out.textContent = input.value.trim() || out.dataset.empty || ""; });
    all(`[data-mirror-initials="${CSS.escape(input.name)}"]`).forEach((out) => {
      const words = input.value.trim().split(/\s+/);
      out.textContent = (words.length > 1 ? words[0][0] + words[1][0] : words[0].slice(0, 2)).toUpperCase();
    });
  };

  const reveal = (button, shown) => {
    const input = $(button.dataset.reveal);
    if (!input) return;
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  };
  const clear = (input) => { if (input && input.value) { input.value = ""; input.dispatchEvent(new Event("input", { bubbles: true })); } };

  document.addEventListener("input", (event) => { mirror(event.target); count(); });
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.dataset?.clears && box.checked) clear($(box.dataset.clears));
    count();
  });
  document.addEventListener("reset", () => setTimeout(count));
  document.addEventListener("submit", (event) => {
    const form = event.target;
    all("[data-reveal][aria-pressed=true]", form).forEach((button) => reveal(button, false));
    if (!event.defaultPrevented && form.hasAttribute("data-unsaved")) leaving = true;
  });

  // Only a press moves the focus: a secret that the server sent open fires the same event.
  let pressed = null;
  // A secret opens on an empty input with the cursor in it; closing it keeps what is stored.
  document.addEventListener("toggle", (event) => {
    const box = event.target;
    if (!box.matches?.("details.secret")) return;
    const input = box.querySelector("[data-secret]");
    if (box.open) { if (pressed === box) input?.focus(); return; }
    const remove = box.querySelector("[data-clears]");
    if (remove) remove.checked = false;
    clear(input);
    all("[data-reveal]", box).forEach((button) => reveal(button, false));
    count();
  }, true);

  const copy = async (button) => {
    const source = $(button.dataset.copy), label = button.querySelector("span");
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    } catch {
      // No clipboard on plain http: select the text, so that the keyboard can copy it.
      if (source.select) source.select(); else getSelection().selectAllChildren(source);
      return say("Selected. Press Ctrl+C to copy.");
    }
    const words = label.dataset.words ??= label.textContent;
    button.classList.add("done");
    label.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.classList.remove("done"); label.textContent = words; }, 2000);
  };
  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest?.(selector);
    let at;
    pressed = hit("details.secret > summary")?.parentNode;
    if ((at = hit("[data-copy]"))) copy(at);
    else if ((at = hit("[data-reveal]"))) { reveal(at, at.getAttribute("aria-pressed") !== "true"); $(at.dataset.reveal)?.focus(); }
    else if ((at = hit("a[data-discard]"))) leaving = true;
    else if ((at = hit("[data-dismiss]")) && $(at.dataset.dismiss)) {
      event.preventDefault();
      $(at.dataset.dismiss).hidden = true;
      $(at.dataset.focus || "main")?.focus();
    }
  });

  // data-only on whatever asks: names that go along, `custom_fields-*` for a group, `-secrets` for all but secrets.
  // The token and the pressed button always go.
  document.addEventListener("htmx:config:request", (event) => {
    const { sourceElement: source, request } = event.detail.ctx, only = source?.dataset?.only;
    if (!only || !(request.body instanceof FormData)) return;
    const wanted = only.split(" "), always = ["csrf_token", source.name, request.submitter?.name];
    const secrets = all("[data-secret]", request.form ?? document).flatMap((input) => [input.name, `${input.name}-remove`]);
    const fits = (name) => always.includes(name) || wanted.some((want) => want === "-secrets" ? !secrets.includes(name)
      : want.endsWith("*") ? name.startsWith(want.slice(0, -1)) : name === want);
    [...new Set(request.body.keys())].forEach((name) => { if (!fits(name)) request.body.delete(name); });
  });

  // The drawer: shown modally after it was filled; closing gives back the list's address and the focus.
  let listURL = null, opener = null;
  const show = (drawer) => {
    if (drawer.matches(":modal")) return;
    drawer.removeAttribute("open");
    drawer.showModal();
  };
  document.addEventListener("htmx:before:request", (event) => {
    const { sourceElement: source, target } = event.detail.ctx;
    source?.closest?.("[popover]:popover-open")?.hidePopover();
    if (target?.matches?.("dialog.drawer") && !target.open) { listURL = location.href; opener = source; }
  });
  document.addEventListener("close", (event) => {
    const drawer = event.target;
    if (!drawer.matches?.("dialog.drawer")) return;
    const url = listURL ?? drawer.dataset.list;
    if (url) history.replaceState({ htmx: true }, "", url);
    (opener?.isConnected ? opener : opener?.id && $(opener.id))?.focus();
    drawer.replaceChildren();
    listURL = opener = null;
  }, true);

  document.addEventListener("htmx:after:swap", (event) => {
    const target = event.detail.ctx?.target;
    if (target?.matches?.("dialog.drawer") && target.childElementCount) show(target);
    if (target?.id === "net-error") { trouble = performance.now(); target.scrollIntoView({ block: "nearest" }); }
    document.title = ($("err-sum") ? "Error: " : "") + document.title.replace(/^Error: /, "");
    count();
  });
  document.addEventListener("htmx:after:settle", count);

  // A test panel or message that is asked for again and again leaves open what was opened in it, and keeps the focus
  // when the button that had it is gone.
  let followed = null;
  const follower = () => $("test-result") ?? $("message");
  document.addEventListener("htmx:before:swap", () => {
    const panel = follower();
    followed = { open: all("details[id][open]", panel ?? undefined).map((box) => box.id), focus: !!panel?.contains(document.activeElement) };
  });
  document.addEventListener("htmx:after:swap", () => {
    const panel = follower();
    if (!panel || !followed) return;
    followed.open.forEach((id) => { const box = $(id); if (panel.contains(box)) box.open = true; });
    if (followed.focus && document.activeElement === document.body) panel.focus({ preventScroll: true });
    followed = null;
  });

  // A request that got no answer says so at the top; the answer to a later request takes it away.
  let trouble = 0;
  document.addEventListener("htmx:config:request", (event) => { event.detail.ctx.askedAt = performance.now(); });
  document.addEventListener("htmx:error", (event) => {
    if (!event.detail.ctx?.request || event.detail.ctx.response) return;
    const words = $("net-error-text"), box = $("net-error");
    if (!words || !box) return;
    trouble = performance.now();
    box.replaceChildren(words.content.cloneNode(true));
    box.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("htmx:after:request", (event) => {
    if (event.detail.ctx?.response?.status < 500 && event.detail.ctx.askedAt > trouble) $("net-error")?.replaceChildren();
  });

  const start = () => { all("dialog.drawer[open]").forEach(show); count(); };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
