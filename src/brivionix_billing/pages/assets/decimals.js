"use strict";
// Exact decimals on BigInt: coefficient x 10^-places. Nothing here rounds; the page already holds the rounded figures.
const Decimals = {
  ZERO: { coefficient: 0n, places: 0 },
  parse(text) {
    const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
    return { coefficient: BigInt(sign + whole + fraction), places: fraction.length };
  },
  format({ coefficient, places }) {
    const sign = coefficient < 0n ? "-" : "";
    const digits = String(coefficient < 0n ? -coefficient : coefficient).padStart(places + 1, "0");
    const fraction = places ? digits.slice(-places).replace(/0+$/, "") : "";
    return sign + (places ? digits.slice(0, -places) : digits) + (fraction && "." + fraction);
  },
  add(a, b) {
    const places = Math.max(a.places, b.places);
    return { coefficient: a.coefficient * 10n ** BigInt(places - a.places) + b.coefficient * 10n ** BigInt(places - b.places), places };
  },
  negate({ coefficient, places }) { return { coefficient: -coefficient, places }; },
  multiply(a, b) { return { coefficient: a.coefficient * b.coefficient, places: a.places + b.places }; },
  scaleDown({ coefficient, places }, digits) { return { coefficient, places: places + digits }; },
  // The price book guarantees that every price divided by the value of a Credit is a finite decimal.
  divideExactly(dividend, divisor) {
    for (let extra = 0; extra < 200; extra++) {
      const scaled = dividend.coefficient * 10n ** BigInt(extra + divisor.places);
      if (scaled % divisor.coefficient === 0n) return { coefficient: scaled / divisor.coefficient, places: dividend.places + extra };
    }
    throw new Error("the quotient is not a finite decimal");
  },
  compare(a, b) {
    const { coefficient } = Decimals.add(a, Decimals.negate(b));
    return coefficient < 0n ? -1 : coefficient > 0n ? 1 : 0;
  },
};
// Formats a plain decimal for a language: groups of three digits, and at least `minPlaces` decimal places.
const formatDigits = (text, form, minPlaces = 0) => {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  const padded = fraction.padEnd(minPlaces, "0");
  return sign + whole.replace(/\B(?=(\d{3})+$)/g, form.group) + (padded && form.decimal + padded);
};
