// Windows of peak prices, at the time and in the time zone of the reader. The page has their instants, in minutes.
const readerZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const minutesNow = () => Date.now() / 60000;
function nextWindow(name) {
  const isOlder = minutesNow() < Date.parse(list.at) / 60000;
  return isOlder ? undefined : (WINDOWS_OF[name] || []).find(([, end]) => end > minutesNow());
}
function windowText(name) {
  const window = nextWindow(name);
  if (!window) return "";
  const format = (options, minutes) => new Intl.DateTimeFormat(currentFormat().tag, options).format(minutes * 60000);
  const day = format.bind(null, { weekday: "short", month: "short", day: "numeric" });
  const clock = format.bind(null, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const [start, end] = window, from = Math.max(start, minutesNow());
  const endText = day(from) === day(end) ? clock(end) : `${day(end)} ${clock(end)}`;
  return start <= minutesNow() ? translate("window_now", { end: endText }) : translate("window_next", { start: `${day(start)} ${clock(start)}`, end: endText });
}
function renderWindows() {
  const used = new Set(groupRows(currentGroup()).map(({ conditions = {} }) => conditions.window));
  const texts = list.calendars.filter(({ name }) => used.has(name)).map((calendar) => [calendar.name, windowText(calendar.name)]).filter(([, text]) => text);
  byId("windows").hidden = !texts.length;
  byId("windows").replaceChildren(...texts.map(([name, text]) =>
    createElement("span", {}, translate("window_line", { name: named("window", name), text, zone: readerZone() }))));
}
