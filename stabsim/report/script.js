"use strict";
// Everything here is an addition: without it all that the page holds is shown.
const NAMES = ["q", "verdict", "claims", "study", "from"];
const THEME = "stabsim-theme";

function remembered() {
  try { return localStorage.getItem(THEME) || ""; } catch { return ""; }  // a page from disk may have no storage
}

function show(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

show(remembered());  // at once, so that nothing flashes

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("controls");
  const status = document.getElementById("status");
  const contents = document.getElementById("contents");
  const fields = NAMES.map((name) => form.elements[name]).filter(Boolean);
  const texts = new Map();
  const text = (element) => {
    if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase().replace(/\s+/g, " "));
    return texts.get(element);
  };
  const each = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const hide = (element, hidden) => { element.classList.toggle("out", hidden); return !hidden; };
  const claims = each(".claim"), studies = each(".study"), figures = each(".picture");

  function wanted() {
    return Object.fromEntries(NAMES.map((name) => [name, (form.elements[name]?.value || "").trim()]));
  }

  function filter() {
    const want = wanted();
    const words = want.q.toLowerCase().split(/\s+/).filter(Boolean);
    const has = (...parts) => { const all = parts.map(text).join(" "); return words.every((word) => all.includes(word)); };
    const shown = { claims: 0, studies: 0, figures: 0 };
    for (const claim of claims) {
      const statement = claim.querySelector(".statement");
      const rows = each(".verdict", claim).filter((row) => hide(row, !(
        (!want.verdict || row.dataset.kind === want.verdict) && (!want.study || row.dataset.study === want.study) &&
        (!want.from || row.dataset.from === want.from) && has(statement, row))));
      shown.claims += hide(claim, !rows.length || Boolean(want.claims && claim.dataset.letter !== want.claims));
    }
    for (const letter of each(".letter")) hide(letter, !letter.querySelector(".claim:not(.out)"));
    for (const study of studies) {
      const head = study.querySelector(".head");
      const rows = each(".verdict", study).filter((row) => hide(row, !(
        (!want.verdict || row.dataset.kind === want.verdict) && (!want.claims || row.dataset.letter === want.claims))));
      const told = has(head) || rows.some((row) => has(head, row));
      const own = each(".picture", study).filter((figure) => hide(figure, !(told || has(head, figure))));
      const fits = (!want.study || study.dataset.study === want.study) &&
        (rows.length || !(want.verdict || want.claims)) && (told || own.length);
      shown.studies += hide(study, !fits);
      shown.figures += fits ? own.length : 0;
    }
    const filtered = Object.values(want).some(Boolean);
    const none = shown.claims + shown.studies ? "" : ": clear what is chosen above to see all";
    document.body.classList.toggle("filtered", filtered);
    status.textContent = `${shown.claims} of ${claims.length} claims, ${shown.studies} of ${studies.length} studies, ` +
      `${shown.figures} of ${figures.length} figures${filtered ? " fit" : ""}${filtered ? none : ""}`;
  }

  function save() {
    const state = new URLSearchParams(Object.entries(wanted()).filter(([, value]) => value)).toString();
    const address = state ? `#?${state}` : location.href.split("#")[0];
    try { history.replaceState(null, "", address); } catch { /* some browsers refuse a hundred changes in half a minute */ }
  }

  function restore() {
    if (location.hash.startsWith("#?")) {
      const state = new URLSearchParams(location.hash.slice(2));
      for (const field of fields) {
        const value = state.get(field.name) || "";
        field.value = value;
        if (field.value !== value) field.value = "";  // a study, say, that is not on this page
      }
      return filter();
    }
    filter();
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.closest(".out")) {  // a link within the page to what the filter hides
      for (const field of fields) field.value = "";
      filter();
      target.scrollIntoView();
    }
  }

  let waiting;
  form.addEventListener("input", (event) => {
    if (event.target.id === "theme") return;
    clearTimeout(waiting);
    waiting = setTimeout(() => { filter(); save(); }, event.target.id === "q" ? 120 : 0);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); save(); });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const field of fields) field.value = "";
    filter();
    save();
  });
  const theme = document.getElementById("theme");
  theme.value = remembered();
  theme.addEventListener("change", () => {
    show(theme.value);
    try { localStorage.setItem(THEME, theme.value); } catch { /* it holds until the page is left */ }
  });
  addEventListener("hashchange", restore);
  const wide = matchMedia("(min-width: 70rem)");
  const fold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  let closed = [];
  addEventListener("beforeprint", () => { closed = each("details:not([open])"); for (const note of closed) note.open = true; });
  addEventListener("afterprint", () => { for (const note of closed) note.open = false; });
  form.hidden = false;
  restore();
});
