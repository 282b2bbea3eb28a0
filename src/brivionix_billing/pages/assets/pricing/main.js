// What the reader does.
function listen() {
  for (const kind of ["focusin", "mouseover"]) document.addEventListener(kind, (event) => { const at = priceAt(event); if (at) showTip(at); });
  document.addEventListener("focusout", (event) => { if (priceAt(event)) hideTip(); });
  document.addEventListener("mouseout", (event) => {
    if (!priceAt(event)) return;
    hideTip();
    if (document.activeElement && document.activeElement.matches(".price")) showTip(document.activeElement);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const at = priceAt(event);
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!at || !step) return undefined;
    event.preventDefault();
    const cell = at.closest("td"), row = cell.parentElement;
    let next = null;
    if (step[0]) {
      for (let one = cell; (one = step[0] > 0 ? one.nextElementSibling : one.previousElementSibling) && !next;) next = one.querySelector(".price");
    } else {
      for (let one = row; (one = step[1] > 0 ? one.nextElementSibling : one.previousElementSibling) && !next;) {
        next = one.children[cell.cellIndex] ? one.children[cell.cellIndex].querySelector(".price") : null;
      }
    }
    if (next) next.focus();
    return undefined;
  });
  document.addEventListener("click", (event) => {
    const at = event.target.closest("button");
    if (!at) return undefined;
    if (at.matches(".price")) return copy(at.dataset.exact);
    if (at.dataset.row) return copy(copyRow(visible[Number(at.dataset.row)]));
    if (at.dataset.language) return set({ lang: at.dataset.language });
    if (at.dataset.sort) {
      const same = state.sort === at.dataset.sort;
      return set(same && state.dir ? { sort: "", dir: "" } : { sort: at.dataset.sort, dir: same ? "desc" : "" });
    }
    if (at.id === "topup") return set({ view: state.view === "topup" ? "nominal" : "topup" });
    if (at.id === "copy-link") return copy(location.href.split("#")[0] + address());
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
  for (const [id, key] of Object.entries(typed)) byId(id).addEventListener("input", () => set({ [key]: byId(id).value }));
  addEventListener("hashchange", () => { readAddress(); render(); });
}

document.documentElement.classList.add("js");
readAddress();
listen();
render();
