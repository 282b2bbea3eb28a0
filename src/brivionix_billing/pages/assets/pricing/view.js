// The whole view: controls, clipboard, and exact prices in a tooltip.
function renderControls() {
  const { tag } = currentFormat();
  if (!EMBEDDED) HOST.lang = tag;
  byId("frame").lang = tag;
  for (const element of ROOT.querySelectorAll(".localized")) element.hidden = element.lang !== tag;
  for (const element of ROOT.querySelectorAll("[data-message]")) element.textContent = translate(element.dataset.message);
  for (const element of ROOT.querySelectorAll("[data-label-message]")) element.setAttribute("aria-label", translate(element.dataset.labelMessage));
  if (!EMBEDDED) document.title = byId("title").textContent = INITIAL.titles[state.lang];
  for (const button of ROOT.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === state.lang));
  const groups = list.groups.map((group) => [group.name, named("group", group.name)]);
  if (groups.length > 1) groups.push(["", translate("compare")]); // no group has an empty name
  fillSelect(byId("group"), groups, state.compare ? "" : state.group);
  byId("compare-field").hidden = !state.compare;
  fillSelect(byId("compare"), SOLD_METERS.map((meter) => [meter, METER_LABELS[state.lang][meter]]), state.compare);
  fillSelect(byId("tier"), SOLD_TIERS.map((name) => [name, TIER_LABELS[state.lang][name]]), state.tier);
  fillSelect(byId("window"), [["0", translate("every")], ...WINDOWS.slice(1).map((tokens) => [String(tokens), translate("context_least", { tokens: formatNumber(tokens) })])], state.window);
  byId("topup").setAttribute("aria-checked", String(state.view === "topup"));
  byId("topup").disabled = !CHANNELS.length;
  byId("channel-field").hidden = state.view !== "topup";
  byId("channels").replaceChildren(...CHANNELS.map((channel) => {
    const input = createElement("input", { type: "radio", name: "channel", value: channel.name });
    input.checked = channel.name === state.channel;
    const label = named("channel", channel.name);
    return createElement("label", {}, input, label === channel.name ? `${label} (${channel.currency})` : `${label} · ${channel.currency}`);
  }));
  for (const input of ROOT.querySelectorAll("input[name=unit]")) input.checked = input.value === state.unit;
  byId("unusable").checked = state.unusable === "1";
  byId("unusable-field").hidden = Boolean(state.compare);
  if (byId("search").value !== state.q) byId("search").value = state.q;
}
function render() {
  const restoreFocus = preserveFocus();
  renderControls();
  renderWindows();
  renderTable();
  renderCalculator();
  renderChanges();
  restoreFocus();
}
// Rendering replaces the element that has the focus. Returns a function that focuses its replacement.
function preserveFocus() {
  const focused = ROOT.activeElement;
  if (!focused || focused === document.body) return () => {};
  const selector = focused.dataset.sort ? `[data-sort="${focused.dataset.sort}"]` : focused.name === "channel" ? "input[name=channel]:checked" : null;
  return () => {
    const replacement = selector && !focused.isConnected ? ROOT.querySelector(selector) : null;
    if (replacement) replacement.focus();
  };
}

let statusTimer = 0;
function showStatus(text) {
  byId("status").textContent = text;
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => { byId("status").textContent = ""; }, 6000);
}
async function copyText(text, displayed = text) {
  try {
    await navigator.clipboard.writeText(text);
    showStatus(translate("copied", { text: displayed }));
  } catch {
    showStatus(translate("not_copied", { text }));
  }
}
// A spreadsheet evaluates a cell that begins like a formula. The same rule as quote_formula() in tabular.py.
const isFormula = (text) => /^['\t\r\n]|^[=+@\u2212-]/.test(text.replace(/^(?![\t\r\n])[\p{Cc}\p{Cf}\p{Z}]+/u, "").normalize("NFKC"));
const escapeCell = (text) => (isFormula(text) ? "'" + text : text);
const COMPARISONS = { over: ">", from: ">=", up_to: "<=", under: "<" };
function rowAsTsv(row) {
  const columns = pricedMeters(currentGroup()), currency = currentCurrency();
  const heading = (meter) => `${meter}, ${currency} ${isTokenMeter(meter) ? `per ${state.unit.toUpperCase()} tokens` : METERS_BY_NAME[meter].per_label.en}`;
  const headings = ["model", "group", "service_tier", "context", "view", ...columns.map(heading)];
  const range = Object.entries(row.input_tokens || {}).map(([key, tokens]) => COMPARISONS[key] + tokens).join(" ") || "any";
  const context = [range, ...conditionNotes(row)].join(", ");
  const view = state.view === "topup" ? state.channel : "nominal";
  const price = (meter) => { const text = viewPrice(row, meter); return text === undefined ? "" : scaleToUnit(text, meter); };
  const cells = [row.model, state.group, row.service_tier, context, view, ...columns.map(price)];
  return headings.join("\t") + "\n" + cells.map(escapeCell).join("\t");
}

function showTip(button) {
  const tip = byId("tip"), { exact, currency, meter } = button.dataset;
  tip.textContent = translate("exact_hint", { price: translate("exactly", { price: formatMoney(exact, currency) }), unit: unitLabel(meter) });
  tip.hidden = false;
  const box = button.getBoundingClientRect(), below = box.bottom + 4 + tip.offsetHeight <= innerHeight;
  tip.style.top = `${below ? box.bottom + 4 : box.top - 4 - tip.offsetHeight}px`;
  tip.style.left = `${Math.max(8, Math.min(box.right - tip.offsetWidth, innerWidth - tip.offsetWidth - 8))}px`;
  button.setAttribute("aria-describedby", "tip");
}
function hideTip() {
  byId("tip").hidden = true;
  for (const button of ROOT.querySelectorAll("[aria-describedby=tip]")) button.removeAttribute("aria-describedby");
}
const closestPrice = (event) => (event.target.closest ? event.target.closest(".price") : null);
