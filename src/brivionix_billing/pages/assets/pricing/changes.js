// Scheduled price changes. scheduled_changes.py decides what counts, in which order, and the statements; this formats them.
const subjectText = (subject) =>
  [subject.model, subject.service_tier && TIER_LABELS[state.lang][subject.service_tier], contextNote(subject), ...conditionNotes(subject)].filter(Boolean).join(" · ");
function beforeAndAfter(statement) {
  const { boundary, channel, meter } = statement;
  if (boundary) return boundary.map(rangeText);
  const { currency } = channel ? CHANNELS_BY_NAME[channel] : { currency: currentCurrency() };
  // Prices are exact, because two different prices can look the same after rounding.
  const format = (price) => (channel ? formatMoney(price, currency) : exactPrice(scaleToUnit(price, meter), currency));
  // The list has Top Up prices at the price of a Credit of that time.
  const prices = channel ? statement.price_per_credit : (state.view === "topup" ? (statement.topup || {})[state.channel] : statement.nominal) || [];
  return prices.map((price) => (price === null ? "–" : format(price)));
}
function statementText(statement) {
  const { message, meter, channel, unit } = statement;
  const [was, now] = beforeAndAfter(statement);
  const text = translate(message, { was, now, channel: channel && named("channel", channel), meter: METER_LABELS[state.lang][meter] });
  return unit ? `${text} ${translate(unit)}` : text;
}
function renderChanges() {
  // The Top Up view shows one channel, so it leaves out the changes of the others.
  const changes = CHANGES[state.group].filter(({ channel }) => !channel || state.view === "nominal" || channel === state.channel);
  byId("changes-list").replaceChildren(changes.length
    ? createElement("ul", { class: "changes" }, ...changes.map(({ at, subjects, statements }) => createElement("li", {},
      createElement("time", { datetime: at }, INITIAL.dates[at][state.lang]),
      createElement("div", {},
        ...(subjects.length ? [createElement("strong", {}, subjects.map(subjectText).join(translate("list_separator")))] : []),
        createElement("div", {}, statements.map(statementText).join(translate("statement_separator")))))))
    : createElement("p", { class: "small muted" }, translate("nothing_announced")));
}
