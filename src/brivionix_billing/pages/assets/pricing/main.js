// What the reader does.
const STOPS = ".price, [data-row]";
const STEPS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0],
};
function listen() {
  document.addEventListener("focusin", (event) => {
    if (!event.target.matches(STOPS)) return;
    for (const one of document.querySelectorAll(`#table :is(${STOPS})[tabindex="0"]`)) one.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  for (const kind of ["focusin", "mouseover"]) document.addEventListener(kind, (event) => { const at = priceAt(event); if (at) showTip(at); });
  document.addEventListener("focusout", (event) => { if (priceAt(event)) hideTip(); });
  document.addEventListener("mouseout", (event) => {
    if (!priceAt(event)) return;
    hideTip();
    if (document.activeElement && document.activeElement.matches(".price")) showTip(document.activeElement);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const at = event.target.closest ? event.target.closest(STOPS) : null;
    const step = STEPS[event.key];
    if (!at || !step) return undefined;
    event.preventDefault();
    const cell = at.closest("td"), row = cell.parentElement;
    let next = null;
    if (step[0]) {
      const all = [...row.querySelectorAll(STOPS)], place = all.indexOf(at) + step[0];
      next = all[step[0] === Infinity ? all.length - 1 : step[0] === -Infinity ? 0 : place];
    } else {
      for (let one = row; (one = step[1] > 0 ? one.nextElementSibling : one.previousElementSibling) && !next;) {
        next = one.children[cell.cellIndex] ? one.children[cell.cellIndex].querySelector(STOPS) : null;
      }
    }
    if (next) next.focus();
    return undefined;
  });
  document.addEventListener("click", (event) => {
    const at = event.target.closest("button");
    if (!at) return undefined;
    if (at.matches(".price")) return copy(at.dataset.exact, money(at.dataset.exact, at.dataset.currency));
    if (at.dataset.row) return copy(copyRow(visible[Number(at.dataset.row)]));
    if (at.dataset.language) return set({ lang: at.dataset.language });
    if (at.dataset.sort) {
      const same = state.sort === at.dataset.sort;
      return set(same && state.dir ? { sort: "", dir: "" } : { sort: at.dataset.sort, dir: same ? "desc" : "" });
    }
    if (at.id === "topup") return set({ view: state.view === "topup" ? "nominal" : "topup" });
    if (at.id === "copy-link") return copy(location.href.split("#")[0] + address(["lang", "group", "view", "channel"]));
    if (at.id === "reset") return set({ ...DEFAULTS, lang: state.lang });
    return undefined;
  });
  for (const id of ["controls", "calc"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  const bound = { group: "group", tier: "tier", window: "window", "calc-model": "model", "calc-tier": "mtier" };
  for (const [id, key] of Object.entries(bound)) byId(id).addEventListener("change", () => set({ [key]: byId(id).value }));
  byId("unusable").addEventListener("change", () => set({ unusable: byId("unusable").checked ? "1" : "" }));
  document.addEventListener("change", (event) => {
    if (event.target.name === "unit" || event.target.name === "channel") set({ [event.target.name]: event.target.value });
  });
  const typed = { search: "q", "calc-input": "input", "calc-cached": "cached", "calc-output": "output", "calc-searches": "searches" };
  for (const [id, key] of Object.entries(typed)) {
    // A digit in the calculator changes no price in the table.
    byId(id).addEventListener("input", () => set({ [key]: byId(id).value }, id === "search" ? render : renderSample));
  }
  addEventListener("hashchange", () => { readAddress(); render(); warn(); });
}

// A link to a group that is gone must not pass for a link to another one.
function warn() { if (unknown.length) status(say("bad_link", { what: unknown.join(", ") })); }
document.documentElement.classList.add("js");
for (const part of document.querySelectorAll(".needs-js")) part.hidden = false;
readAddress();
listen();
render();
warn();
