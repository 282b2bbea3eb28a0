"use strict";
// Exact decimals on BigInt. Nothing here rounds: figures that are shown rounded come with the page, rounded once.
const Exact = {
  of(text) {
    const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
    return { n: BigInt(sign + whole + part), p: part.length };
  },
  text({ n, p }) {
    const sign = n < 0n ? "-" : "";
    const digits = String(n < 0n ? -n : n).padStart(p + 1, "0");
    const part = p ? digits.slice(-p).replace(/0+$/, "") : "";
    return sign + (p ? digits.slice(0, -p) : digits) + (part && "." + part);
  },
  plus(a, b) {
    const p = Math.max(a.p, b.p);
    return { n: a.n * 10n ** BigInt(p - a.p) + b.n * 10n ** BigInt(p - b.p), p };
  },
  times(a, b) { return { n: a.n * b.n, p: a.p + b.p }; },
  // a / b where the quotient has an end; the price book guarantees that for Credits.
  over(a, b) {
    for (let more = 0; more < 200; more++) {
      const n = a.n * 10n ** BigInt(more + b.p);
      if (n % b.n === 0n) return { n: n / b.n, p: a.p + more };
    }
    throw new Error("no end");
  },
  compare(a, b) {
    const d = Exact.plus(a, { n: -b.n, p: b.p }).n;
    return d < 0n ? -1 : d > 0n ? 1 : 0;
  },
};
// Puts digits into the form of a language: groups of three, at least so many digits behind the point.
const inForm = (text, form, least = 0) => {
  const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  const tail = part.padEnd(least, "0");
  return sign + whole.replace(/\B(?=(\d{3})+$)/g, form.group) + (tail && form.decimal + tail);
};
