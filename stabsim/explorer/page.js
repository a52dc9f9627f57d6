"use strict";
// The form, the address bar and the table; figures are drawn by Bokeh from what the session sends.
(() => {
  const find = (id) => document.getElementById(id);
  const form = find("controls");
  const sliders = [...document.querySelectorAll("input[type=range]")];
  const lists = [...document.querySelectorAll("select[id$=-list]")];
  const fields = [...document.querySelectorAll("[name]")].filter((e) => e.closest("[data-field]"));
  const explore = { answer: {}, latency: null };
  window.stabsimExplore = explore;
  let exchange = null, asked = null, since = 0, frame = 0, waiting = 0;

  // --- sliders: a place from 0 to 1000 and a value ---
  const ends = (slider) => [Number(slider.dataset.low), Number(slider.dataset.high)];
  const three = (value) => String(Number(value.toPrecision(3)));
  function valueAt(slider) {
    const [low, high] = ends(slider), part = slider.value / slider.max;
    if (slider.dataset.steps === "even") return three(low + part * (high - low));
    if (slider.dataset.steps === "whole") return String(Math.round(low + part * (high - low)));
    if (slider.dataset.steps === "doubled") return String(2 ** Math.round(Math.log2(low) + part * Math.log2(high / low)));
    const value = low * (high / low) ** part;
    return slider.id === "width-slider" ? String(Math.round(value)) : three(value);
  }
  function placeOf(slider, value) {
    const [low, high] = ends(slider);
    const even = slider.dataset.steps === "even" || slider.dataset.steps === "whole";
    const part = even ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
    return Math.round(slider.max * Math.min(Math.max(part, 0), 1));
  }
  function settle(slider, text) {
    const value = Number(text);
    if (text !== "" && Number.isFinite(value) && valueAt(slider) !== String(value)) slider.value = placeOf(slider, value);
    slider.setAttribute("aria-valuetext", text);
  }
  for (const slider of sliders) {
    const [low, high] = ends(slider), steps = slider.dataset.steps;
    slider.max = steps === "whole" ? high - low : steps === "doubled" ? Math.log2(high / low) : 200;
    slider.addEventListener("input", () => {
      find(slider.id.replace("-slider", "")).value = valueAt(slider);
      changed();
    });
  }

  // --- the form and the link ---
  function link() {
    const query = new URLSearchParams();
    for (const field of fields) query.set(field.name, field.value);
    return query.toString();
  }
  function follow() {
    for (const slider of sliders) {
      const field = find(slider.id.replace("-slider", ""));
      settle(slider, field.value === "" ? field.placeholder : field.value);
    }
    for (const list of lists) {
      const text = find(list.id.replace("-list", "")).value;
      list.value = [...list.options].some((option) => option.value === text) ? text : "";
    }
  }
  function fill(texts) {
    for (const field of fields) {
      const text = texts[field.name];
      if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === text)) {
        field.add(new Option(text, text));  // nothing that a link says is lost
      }
      field.value = text;
    }
    follow();
  }
  function changed() {
    follow();
    since = performance.now();
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => ask(link()));
  }
  function ask(text) {
    asked = text;
    exchange.link = text;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (explore.answer.busy !== false) status("Simulating … Nets of a kind that this machine has not drawn before are compiled first, once: up to a minute.");
    }, 2000);
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("input", (event) => {
    if (event.target.name) changed();
  });
  for (const list of lists) {
    list.addEventListener("change", () => {
      const field = find(list.id.replace("-list", ""));
      if (list.value === "") { field.focus(); return; }
      field.value = list.value;
      if (field.name === "weights") find("gain").value = "";  // the initializer's own
      changed();
    });
  }

  // --- answers ---
  const status = (text) => { find("status").textContent = text; };
  function say(place, text) {
    place.hidden = !text;
    if (place.textContent !== text) place.textContent = text;
  }
  function problems(found) {
    say(find("problem"), found[""] ?? "");
    for (const field of fields) {
      const text = found[field.name] ?? "";
      say(find(`${field.name}-problem`), text);
      field.setAttribute("aria-invalid", String(text !== ""));
      if (text) field.closest("details")?.setAttribute("open", "");
    }
    const wrong = Object.keys(found).length > 0;
    find("explore").classList.toggle("stale", wrong);
    if (wrong) status("Nothing new is drawn until this is mended.");
  }
  const short = (value) => value === null ? "–" : value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
  function table(rows) {
    const body = find("rows");
    body.replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      const theory = row.theory !== null ? short(row.theory) : row.infinite_width !== null ? `${short(row.infinite_width)} (infinite width)` : "–";
      const cells = [row.quantity, row.layer, short(row.estimate), `${short(row.ci_low)} to ${short(row.ci_high)}`, theory];
      cells.forEach((text, place) => {
        const cell = document.createElement(place ? "td" : "th");
        if (!place) cell.scope = "row";
        cell.textContent = text;
        line.append(cell);
      });
      line.dataset.estimate = row.estimate;
      return line;
    }));
  }
  function missing(words) {
    for (const [panel, text] of Object.entries(words)) find(`panel-${panel}`).hidden = text !== "";
    const left_out = Object.entries(words).filter(([, text]) => text !== "");
    const titles = left_out.map(([panel, text]) => `“${find(`title-${panel}`).textContent}” ${text}.`);
    say(find("left-out"), titles.join(" "));
  }
  function map(words) {
    say(find("no-map"), words);
    find("panel-map").querySelector(".plot").classList.toggle("off", words !== "");
  }
  function heard(told) {
    if (asked !== null && told.link !== asked) return;  // of what was wanted before
    Object.assign(explore.answer, told);
    if (told.texts && !filled) { filled = true; fill(told.texts); }
    if (told.gain !== undefined) { find("gain").placeholder = short(told.gain); follow(); }
    if (told.problems) problems(told.problems);
    if (told.canonical) history.replaceState(null, "", `?${told.canonical}`);
    if (told.rows) {
      table(told.rows);
      const remarks = told.remarks.map((text) => ` ${text}.`).join("");
      const wanted = find("nets").value;
      const so_far = told.busy ? `${told.nets} of ${wanted} nets so far` : `${told.nets} nets`;
      status(`${so_far}, sampler ${told.sampler}, in ${told.seconds.toFixed(2)} s.${remarks}`);
      missing(told.missing);
      requestAnimationFrame(() => requestAnimationFrame(() => {
        if (told.link === asked) explore.latency = performance.now() - since;
      }));
    }
    if (told.no_map !== undefined) { map(told.no_map); explore.answer.mapped = told.link; }
    if (told.kind !== undefined) {
      find("verdict").dataset.kind = told.kind;
      find("kind").textContent = told.kind;
      find("sentence").textContent = told.sentence;
    }
  }

  // --- colors, links, start ---
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  function paint(dark) {
    document.documentElement.classList.toggle("dark", dark);
    find("theme").setAttribute("aria-pressed", String(dark));
    if (exchange) exchange.dark = dark;
  }
  prefers.addEventListener("change", () => paint(prefers.matches));
  find("theme").addEventListener("click", () => paint(!document.documentElement.classList.contains("dark")));
  find("reset").addEventListener("click", () => { location.href = location.pathname; });
  find("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      find("copy").textContent = "Copied";
    } catch {
      prompt("The link:", location.href);
    }
    setTimeout(() => { find("copy").textContent = "Copy link"; }, 1500);
  });
  const initial = location.search.slice(1);
  let filled = false;
  paint(prefers.matches);
  if (matchMedia("(max-width: 800px)").matches) {
    for (const section of [...form.querySelectorAll("details")].slice(1)) section.open = false;
  }
  function start() {
    const found = window.Bokeh?.documents?.[0]?.get_model_by_name("exchange");
    if (!found) { setTimeout(start, 20); return; }
    exchange = explore.exchange = found;
    exchange.properties.answer.change.connect(() => heard(JSON.parse(exchange.answer)));
    exchange.document.on_event("connection_lost", () => {
      say(find("problem"), "The connection is lost: reload this page. If it does not come back, the server has ended: run stabsim explore again.");
    });
    exchange.dark = document.documentElement.classList.contains("dark");
    since = performance.now();
    ask(initial === "" ? "?" : initial);  // a change, which the session hears
  }
  start();
})();
