// The recorded graph, the time line through it, and what is known at each position on that line.
// Positions: 0 leaves only; 1 … F the forward pass; F + 1 … F + B the backward pass; then complete.

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const unpacked = (text) => new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
const holder = document.getElementById("data"), packed = holder.textContent;
const data = JSON.parse(holder.type.endsWith("json") ? packed : await unpacked(packed));
const floats = new Float32Array(bytes(data.floats).buffer);
const size = (node) => node.shape.reduce((a, b) => a * b, 1);
const array = (v, node) => (typeof v !== "number" ? v : { data: node.shape.length ? [...floats.subarray(v, v + size(node))] : floats[v], columns: node.shape.at(-1) });
const { groups } = data, nodes = data.nodes.kind.map((_, i) => {
  const node = Object.fromEntries(Object.entries(data.nodes).map(([key, all]) => [key, all[i]]));
  return Object.assign(node, { value: array(node.value, node), grad: array(node.grad, node) });
});
const NS = { svg: "http://www.w3.org/2000/svg", math: "http://www.w3.org/1998/Math/MathML", html: "http://www.w3.org/1999/xhtml" };

// The only way in which anything is put on the page: text becomes text nodes, never markup.
// make("html", "p.class", { attributes }, children, …); attributes may be left out.
function make(ns, tag, ...children) {
  const [name_, ...classes] = tag.split("."), element = document.createElementNS(NS[ns], name_);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  const attributes = Object.getPrototypeOf(children[0] ?? 0) === Object.prototype ? children.shift() : {};
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...present(children));
  return element;
}
const present = (list) => list.flat(Infinity).filter((c) => c !== null && c !== undefined);
const h = (...parts) => make("html", ...parts);
const s = (...parts) => make("svg", ...parts);
const linked = (i) => ({ href: `${location.pathname}#node=${i}`, tabindex: 0, click: (event) => { event.preventDefault(); openNode(i); } });
const $ = (id) => document.getElementById(id);

// Names may hold anything: what cannot be printed is written as \x.., and long ones are cut.
function clean(text, longest = 160) {
  let out = "";
  for (const c of String(text)) {
    if (out.length >= longest) return out + "…";
    out += /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(c) ? "\\x" + c.codePointAt(0).toString(16).padStart(2, "0") : c;
  }
  return out;
}

// Numbers: four digits, with a real minus; `full` has every digit that is told.
const full = (x) => String(floats.length ? Number(x.toPrecision(7)) : x).replace("-", "−");
function digits(x, count = 4) {
  if (x === null || x === undefined) return "not kept";
  x = Number(x);
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e6 || size < 1e-4 ? x.toExponential(count - 1).replace(/\.?0+e/, "e").replace("e+", "e") : String(Number(x.toPrecision(count)));
  return text.replace(/-/g, "−");
}
const entries = (v) => (v && v.data !== undefined ? [v.data].flat().map(Number) : null);
const scalar = (v) => (v && typeof v.data !== "object" && v.data !== undefined ? Number(v.data) : null);
const shapeText = (shape) => (shape.length ? shape.join("×") : "scalar");
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

// A value on one line: up to three entries in full, otherwise mean and deviation.
function line(v) {
  if (!v) return "not kept";
  const all = entries(v);
  if (!all) return `μ ${digits(v.stats[0], 3)} σ ${digits(v.stats[1], 3)}`;
  if (typeof v.data !== "object") return digits(all[0]);
  if (all.length === 0) return "empty";
  if (all.length <= 3) return `[${all.map((x) => digits(x, 3)).join(", ")}]`;
  const mean = all.reduce((a, b) => a + b, 0) / all.length;
  const deviation = Math.sqrt(all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length);
  return `μ ${digits(mean, 3)} σ ${digits(deviation, 3)}`;
}
const norm = (v, node) => v && (v.stats ? v.stats[4] * Math.sqrt(size(node)) : Math.hypot(...entries(v)));
const gradientText = (node) =>
  node.grad && scalar(node.grad) !== null ? `∇ ${digits(scalar(node.grad))}` : node.norm === null ? "no gradient" : `‖∇‖ ${digits(node.norm)}`;

// Labels as in the local derivatives: the name, or z and the node's number; constants have none.
const labels = nodes.map((node, i) => (node.name !== null ? node.name : node.kind === "input" ? null : `z${i}`));
const symbol = (node) => (node.kind === "input" ? "constant" : node.parents.length ? data.symbols[node.op] || node.op : "parameter");
const title = (i) => {
  const node = nodes[i];
  if (node.name !== null) return clean(node.name);
  const value = node.kind === "input" ? scalar(node.value) : null;
  return value !== null ? digits(value) : node.kind === "input" ? "constant" : node.parents.length ? `${node.op} (${labels[i]})` : `parameter (${labels[i]})`;
};

// The time line.
const isLeaf = (i) => nodes[i].parents.length === 0;
const forwardOrder = nodes.map((_, i) => i).filter((i) => !isLeaf(i));
const reached = (i) => nodes[i].grad !== null;
const backwardOrder = forwardOrder.filter(reached).reverse(); // the youngest first, as the engine does
const F = forwardOrder.length;
const LAST = F + backwardOrder.length + 1;
const forwardAt = new Map(forwardOrder.map((i, k) => [i, k + 1]));
const backwardAt = new Map(backwardOrder.map((i, k) => [i, F + k + 1]));
const users = nodes.map(() => []); // per node: { node, argument } that take it
nodes.forEach((node, i) => node.parents.forEach((p, argument) => p >= 0 && users[p].push({ node: i, argument })));

// What every backward step sends: { argument, node, value, slope, arrival, of, total }. The page's data
// leaves out what is a node's gradient: a contribution that is the only one, and the last sum.
const sends = new Map(data.steps.map((step) => [step.node, step.to]));
const sent = (i) => sends.get(i) || [];
const arrivals = nodes.map(() => []); // per node: { at: position, from, contribution }, in order
for (const i of backwardOrder) for (const c of sent(i)) {
  c.node = nodes[i].parents[c.argument];
  arrivals[c.node].push({ at: backwardAt.get(i), from: i, c });
}
arrivals.forEach((list, i) => list.forEach(({ c }, k) => {
  const of = list.length, { grad } = nodes[i], value = of === 1 ? grad : array(c.value, nodes[i]);
  Object.assign(c, { arrival: k + 1, of, value, total: k + 1 === of ? grad : k ? array(c.total, nodes[i]) : value });
}));
nodes.forEach((node, i) => {
  node.flow = node.parents.map(() => null);
  for (const c of sent(i)) node.flow[c.argument] = norm(c.value, nodes[c.node]);
  node.norm = norm(node.grad, node);
  node.rms = node.norm && node.norm / Math.sqrt(size(node));
});

const phaseAt = (p) => (p <= 0 ? "start" : p <= F ? "forward" : p < LAST ? "backward" : "complete");
const nodeAt = (p) => (p < 1 || p >= LAST ? null : p <= F ? forwardOrder[p - 1] : backwardOrder[p - F - 1]);
const valueKnown = (i, p) => isLeaf(i) || p >= forwardAt.get(i);
function arrived(i, p) { // how much of a node's gradient is there: { have, of, total }
  if (i === data.loss) return { have: p > F ? 1 : 0, of: 1, total: nodes[i].grad };
  const before = arrivals[i].filter((a) => a.at <= p);
  return { have: before.length, of: arrivals[i].length, total: before.length ? before[before.length - 1].c.total : null };
}

// Boxes: which group hides a node, given the open ones.
const open = new Set(data.open);
const insideOf = (group) => { // from the outermost in
  const path = [];
  for (let g = group; g >= 0; g = groups[g].parent) path.push(g);
  return path.reverse();
};
const paths = groups.map((_, g) => insideOf(g));
const pathOf = (group) => (group < 0 ? [] : paths[group]);
const hider = (i) => { // the closed group whose card stands for a node; -1 if it has its own card
  for (const g of pathOf(nodes[i].group)) if (!open.has(g)) return g;
  return -1;
};
const reveal = (i) => pathOf(nodes[i].group).forEach((g) => open.add(g));
