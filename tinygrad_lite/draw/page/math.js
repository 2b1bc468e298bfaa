// Formulas as MathML, from small builders; and a reader for the local derivatives, which the engine
// gives as short NumPy expressions ("g * (1 - out**2)"), so that there is one table of them, not two.

const m = (...parts) => make("math", ...parts);
const mo = (text) => m("mo", text);
const mi = (text) => m("mi", text);
const mn = (text) => m("mn", text);
const row = (...parts) => m("mrow", ...parts);
const frac = (a, b) => m("mfrac", row(a), row(b));
const sup = (a, b) => m("msup", row(a), row(b));
const fenced = (...parts) => row(mo("("), ...parts, mo(")"));
const call = (name, ...parts) => row(mi(name), fenced(...parts));
const math = (...parts) => m("math", row(...parts));

// A node's name in a formula: x, v₈, "a long name"; a constant without a name is its value, or c.
function term(i) {
  const label = i < 0 ? null : labels[i];
  if (label === null) {
    const value = i < 0 ? null : scalar(nodes[i].value);
    return value === null ? mi(i < 0 ? "·" : "c") : value < 0 ? fenced(mn(digits(value))) : mn(digits(value));
  }
  return name(label);
}
function name(label) {
  const parts = /^([A-Za-z])_?(\d+)$/.exec(label);
  return parts ? m("msub", mi(parts[1]), mn(parts[2])) : label.length > 24 ? m("mtext", clean(label, 24)) : mi(clean(label));
}
const partial = (a, b) => frac([mo("∂"), a], [mo("∂"), b]);
const gradOf = (i) => partial(term(data.loss), term(i));

const infix = (sign) => (a, b) => [a, mo(sign), b];
const named = (text) => (a) => [mi(text), fenced(a)];
const FORMULAS = { // the step as mathematics, given its arguments
  add: infix("+"), subtract: infix("−"), matmul: (a, b) => [a, b], negative: (a) => [mo("−"), a],
  divide: (a, b) => [frac(a, b)], power: (a, b) => [sup(a, b)], square: (a) => [sup(a, mn(2))],
  exp: (a) => [sup(mi("e"), a)], sqrt: (a) => [m("msqrt", a)], absolute: (a) => [mo("|"), a, mo("|")],
  sigmoid: (a) => [frac(mn(1), [mn(1), mo("+"), sup(mi("e"), [mo("−"), a])])],
  relu: (a) => [mi("max"), fenced(mn(0), mo(","), a)],
  log: named("ln"), tanh: named("tanh"), sin: named("sin"), cos: named("cos"),
  transpose: (a) => [sup(a, mi("T"))],
};
const under = (sign) => (a, _, node) => [axisOf(node) === null ? mo(sign) : m("munder", mo(sign), m("mtext", `axis ${axisOf(node)}`)), a];
FORMULAS.sum = under("∑");
FORMULAS.mean = under("mean");
FORMULAS.max = under("max");
FORMULAS.min = under("min");
const axisOf = (node) => { const found = /axis=(-?\d+)/.exec(node.params); return found ? Number(found[1]) : null; };

function formula(i) { // "v8 = e^v7"
  const node = nodes[i], args = node.parents.map(term);
  let right;
  if (node.op === "multiply") right = [args[0], mo(node.parents.every((p) => p < 0 || !nodes[p].shape.length) ? "·" : "⊙"), args[1]];
  else if (FORMULAS[node.op]) right = FORMULAS[node.op](args[0], args[1], node);
  else right = [mi(node.op), fenced(args.map((a, k) => (k ? [mo(","), a] : a)), node.params ? m("mtext", `; ${clean(node.params, 40)}`) : null)];
  return math(term(i), mo("="), ...right);
}

// Reads what NumPy would: + - * / ** unary minus, calls, comparisons. Null if it is not an expression.
function parse(text, given) {
  const tokens = [];
  for (let at = 0; at < text.length;) {
    const found = /^(\*\*|[-+*/()@,<>]|==|\.T|\d+(\.\d*)?(e[-+]?\d+)?|[A-Za-z_]\w*)/.exec(text.slice(at))?.[0];
    if (found) tokens.push(found);
    else if (text[at] !== " ") return null;
    at += found ? found.length : 1;
  }
  let at = 0;
  const next = (...options) => (options.includes(tokens[at]) ? tokens[at++] : null);
  const need = (token) => { if (!next(token)) throw new SyntaxError(token); };
  const binary = (inner, join, ...signs) => () => {
    let left = inner();
    for (let sign; (sign = next(...signs));) left = join(left, sign, inner());
    return left;
  };
  const SIGN = { "-": "−", "*": "·", "==": "=" };
  const plain = (a, sign, b) => row(a, mo(SIGN[sign] || sign), b);
  function atom() {
    const token = tokens[at++];
    if (token === undefined) throw new SyntaxError("end");
    if (given[token]) return given[token]();
    if (/^\d/.test(token)) return mn(token);
    if (token === "(") {
      const inner = compare();
      need(")");
      return inner.localName === "mfrac" || !inner.childElementCount ? inner : fenced(inner);
    }
    if (!/^\w/.test(token)) throw new SyntaxError(token);
    if (!next("(")) return mi(token === "pi" ? "π" : token);
    const inner = compare();
    need(")");
    return token === "sqrt" ? m("msqrt", inner) : token === "exp" ? sup(mi("e"), inner) : call(token === "log" ? "ln" : token, inner);
  }
  const power = () => {
    const base = next(".T") || atom();
    if (next("**")) return sup(base, unary());
    return next(".T") ? sup(base, mi("T")) : base;
  };
  const unary = () => (next("-") ? row(mo("−"), unary()) : power());
  const bare = (part) => (part.localName === "mrow" && part.firstChild?.textContent === "(" && part.lastChild?.textContent === ")" ? row(...[...part.childNodes].slice(1, -1)) : part);
  const product = binary(unary, (a, sign, b) => (sign === "/" ? frac(bare(a), bare(b)) : sign === "@" ? row(a, b) : plain(a, sign, b)), "*", "/", "@");
  const add = binary(product, plain, "+", "-");
  const compare = binary(add, plain, "<", ">", "==");
  try {
    const tree = compare();
    return at === tokens.length ? bare(tree) : null;
  } catch {
    return null;
  }
}

// "∂out/∂argument = …", or null when the rule is told in words.
const ruleOf = (i, c) => data.rules[nodes[i].op][c.argument];
function localFormula(i, c) {
  const text = /^g \* (.*)$/s.exec(ruleOf(i, c))?.[1], args = nodes[i].parents;
  const tree = text && parse(text, { x: () => term(args[0]), y: () => term(args.at(-1)), out: () => term(i) });
  return tree && math(partial(term(i), term(c.node)), mo("="), tree);
}
