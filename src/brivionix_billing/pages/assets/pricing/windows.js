// Windows of peak prices, at the time and in the time zone of the reader. The page has their instants, in minutes.
const readerZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const minutesNow = () => Date.now() / 60000;
function nextWindow(name) {
  const isOlder = minutesNow() < Date.parse(list.at) / 60000;
  return isOlder ? undefined : (WINDOWS_OF[name] || []).find(([, end]) => end > minutesNow());
}
// Whether the prices in a window are higher or lower than at other times: a calendar may be that of off-peak prices.
function windowKind(name) {
  const caseOf = ({ model, service_tier: tier, context, above, conditions: { window, ...others } = {} }) => JSON.stringify([model, tier, context, above, others]);
  const rows = groupRows(currentGroup()), signs = new Set();
  const usual = new Map(rows.filter(({ conditions = {} }) => !conditions.window).map((row) => [caseOf(row), row]));
  for (const row of rows.filter(({ conditions = {} }) => conditions.window === name)) {
    const prices = nominalPrices(row), others = usual.has(caseOf(row)) ? nominalPrices(usual.get(caseOf(row))) : {};
    for (const meter of Object.keys(prices)) {
      if (meter in others) signs.add(Decimals.compare(Decimals.parse(prices[meter]), Decimals.parse(others[meter])));
    }
  }
  signs.delete(0);
  return signs.size === 1 ? (signs.has(-1) ? "window_lower" : "window_higher") : "window_other";
}
const windowKinds = new Map();
function kindOf(name) {
  const key = JSON.stringify([currentGroup().name, name]);
  if (!windowKinds.has(key)) windowKinds.set(key, windowKind(name));
  return windowKinds.get(key);
}
function windowText(name) {
  const window = nextWindow(name);
  if (!window) return "";
  const format = (options, minutes) => new Intl.DateTimeFormat(currentFormat().tag, options).format(minutes * 60000);
  const day = format.bind(null, { weekday: "short", month: "short", day: "numeric" });
  const clock = format.bind(null, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const [start, end] = window, from = Math.max(start, minutesNow()), kind = translate(kindOf(name));
  const endText = day(from) === day(end) ? clock(end) : `${day(end)} ${clock(end)}`;
  if (start <= minutesNow()) return translate("window_now", { kind, end: endText });
  return translate("window_next", { kind, start: `${day(start)} ${clock(start)}`, end: endText });
}
// More windows than these are collapsed, because they would move the prices off the first screen of a phone.
const MAX_WINDOW_LINES = 2;
function renderWindows() {
  const used = new Set(groupRows(currentGroup()).map(({ conditions = {} }) => conditions.window));
  const shown = list.calendars.map(({ name }) => name).filter((name) => used.has(name) && nextWindow(name));
  const lines = shown.map((name, index) => createElement("span", {}, translate(index ? "window_line" : "window_line_zone",
    { name: named("window", name), text: windowText(name), zone: readerZone() })));
  const box = byId("windows");
  box.hidden = !shown.length;
  if (lines.length <= MAX_WINDOW_LINES) return box.replaceChildren(...lines);
  const active = shown.filter((name) => nextWindow(name)[0] <= minutesNow()).length;
  const details = createElement("details", {}, createElement("summary", {}, translate("windows_active", { n: formatNumber(active), all: formatNumber(lines.length) })), ...lines);
  details.open = Boolean(box.querySelector("details[open]"));
  return box.replaceChildren(details);
}
