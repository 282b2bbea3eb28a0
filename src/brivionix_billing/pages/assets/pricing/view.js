// All of the page: controls, copying, exact prices on demand.
function renderControls() {
  document.documentElement.lang = form().tag;
  for (const part of document.querySelectorAll("main > [lang], header [lang]:not(button)")) part.hidden = part.lang !== form().tag;
  for (const part of document.querySelectorAll("[data-say]")) part.textContent = say(part.dataset.say);
  for (const part of document.querySelectorAll("[data-label-say]")) part.setAttribute("aria-label", say(part.dataset.labelSay));
  if (!start.title) document.title = say("title");
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === state.lang));
  options(byId("group"), list.groups.map((group) => [group.name, group.name]), state.group);
  options(byId("tier"), [["every", say("every")], ...SOLD.map((name) => [name, TIERS[state.lang][name]])], state.tier);
  options(byId("window"), [["0", say("every")], ...WINDOWS.slice(1).map((tokens) => [String(tokens), say("context_least", { tokens: number(tokens) })])],
    WINDOWS.slice(1).map(String).includes(state.window) ? state.window : "0");
  byId("topup").setAttribute("aria-checked", String(state.view === "topup"));
  byId("topup").disabled = !CHANNELS.length;
  byId("channel-field").hidden = state.view !== "topup";
  byId("channels").replaceChildren(...CHANNELS.map((channel) => {
    const input = element("input", { type: "radio", name: "channel", value: channel.name });
    input.checked = channel.name === state.channel;
    return element("label", {}, input, `${channel.name} (${channel.currency})`);
  }));
  for (const input of document.querySelectorAll("input[name=unit]")) input.checked = input.value === state.unit;
  byId("unusable").checked = state.unusable === "1";
  for (const [id, key] of [["search", "q"], ["calc-input", "input"], ["calc-cached", "cached"], ["calc-output", "output"], ["calc-searches", "searches"]]) {
    if (byId(id).value !== state[key]) byId(id).value = state[key];
  }
}
function render() {
  const kept = keepFocus();
  renderControls();
  renderSample();
  renderTable();
  renderChanges();
  kept();
}
// What had the focus is made anew: the one that took its place gets it.
function keepFocus() {
  const at = document.activeElement;
  if (!at || at === document.body) return () => {};
  const way = at.dataset.sort ? `[data-sort="${at.dataset.sort}"]` : at.name === "channel" ? "input[name=channel]:checked" : null;
  return () => { if (way && !at.isConnected) { const now = document.querySelector(way); if (now) now.focus(); } };
}

let clear = 0;
function status(text) {
  byId("status").textContent = text;
  clearTimeout(clear);
  clear = setTimeout(() => { byId("status").textContent = ""; }, 6000);
}
async function copy(text, told = text) {
  try {
    await navigator.clipboard.writeText(text);
    status(say("copied", { text: told }));
  } catch {
    status(say("not_copied", { text }));
  }
}
// A spreadsheet runs a cell that begins like a formula.
const cellText = (text) => (/^[=+@\t\r-]/.test(text) ? "'" + text : text);
function copyRow(row) {
  const columns = columnsOf(theGroup()), currency = currencyOf(), prices = pricesOf(row);
  const unit = (meter) => `${meter}, ${currency} per ${isTokens(meter) ? `${state.unit.toUpperCase()} tokens` : "1K calls"}`;
  const heads = ["model", "group", "service_tier", "context", "view", ...columns.map(unit)];
  const context = row.above === null ? "any" : (row.context === "long" ? ">" : "<=") + row.above;
  const view = state.view === "topup" ? state.channel : "nominal";
  const cells = [row.model, state.group, row.service_tier, context, view, ...columns.map((meter) => (meter in prices ? inUnit(prices[meter], meter) : ""))];
  return heads.join("\t") + "\n" + cells.map(cellText).join("\t");
}

function showTip(button) {
  const tip = byId("tip"), { exact, currency, meter } = button.dataset;
  tip.textContent = say("exact_hint", { price: say("exactly", { price: money(exact, currency) }), unit: unitOf(meter) });
  tip.hidden = false;
  const box = button.getBoundingClientRect();
  tip.style.top = `${box.bottom + scrollY + 4}px`;
  tip.style.left = `${Math.max(8, Math.min(box.right - tip.offsetWidth, innerWidth - tip.offsetWidth - 8)) + scrollX}px`;
  button.setAttribute("aria-describedby", "tip");
}
function hideTip() {
  byId("tip").hidden = true;
  for (const button of document.querySelectorAll("[aria-describedby=tip]")) button.removeAttribute("aria-describedby");
}
const priceAt = (event) => (event.target.closest ? event.target.closest(".price") : null);
