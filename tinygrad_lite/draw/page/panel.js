// The explanation beside the picture: of the whole, of a step, or of a node.

const say = (...parts) => h("p", ...parts);
const link = (i, text) => h("a", linked(i), text || title(i));

// A value: a number, a table tinted by sign and size, or statistics with a thumbnail.
function heat(v, caption, explain = null) {
  const figure = (...content) => h("figure", content, h("figcaption", caption));
  if (!v) return figure(h("div.facts", "not kept in this page"));
  if (v.data === undefined) {
    const [mean, deviation, min, max, rms] = v.stats.map((x) => digits(x));
    return figure(v.thumb ? tinted(v.thumb.data.map(Number), v.thumb.rows, v.thumb.cols, null, true) : null, h("div.facts", `μ ${mean}, σ ${deviation}, ${min} … ${max}, rms ${rms}`));
  }
  const all = entries(v);
  if (typeof v.data !== "object") return figure(h("div.big", { "data-value": full(all[0]), title: full(all[0]) }, digits(all[0])));
  if (!all.length) return figure(h("div.facts", "empty"));
  return figure(tinted(all, all.length / v.columns, v.columns, explain));
}
function tinted(all, rows, columns, explain, thumb = false) {
  const most_ = Math.max(...all.filter(Number.isFinite).map(Math.abs), 0) || 1;
  const cells = all.map((x, k) => {
    const cell = h("td", thumb ? {} : { title: full(x), "data-value": full(x), tabindex: explain ? (k ? -1 : 0) : null }, thumb ? "" : digits(x, 3));
    cell.style.setProperty("--tone", x < 0 ? "var(--minus)" : "var(--plus)");
    cell.style.setProperty("--much", `${Math.round((Math.min(1, Math.abs(x) / most_) || 0) * (thumb ? 100 : 50))}%`);
    return cell;
  });
  const table = h("table", { class: `heat${thumb ? " thumb" : ""}`, role: explain ? "grid" : thumb ? "img" : null, "aria-label": thumb ? "means over blocks" : explain ? "each cell tells how it was made" : null },
    h("tbody", { role: thumb ? "presentation" : null }, Array.from({ length: rows }, (_, r) => h("tr", { role: thumb ? "presentation" : null }, cells.slice(r * columns, (r + 1) * columns)))));
  if (explain) {
    const tell = (cell) => {
      for (const other of cells) other.classList.toggle("made", other === cell);
      explain(cells.indexOf(cell));
    };
    const on = (event) => { const cell = event.target.closest("td"); if (cell) tell(cell); };
    table.addEventListener("pointerover", on);
    table.addEventListener("focusin", on);
    table.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      const from = cells.indexOf(event.target), to = cells[from + move];
      if (!to) return;
      event.target.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    });
  }
  return h("div.scroll", columns > 8 && !thumb && !explain ? { tabindex: 0, role: "group", "aria-label": "wide table" } : {}, table);
}
const button = (text, click) => h("button", { click }, text);
const product = (...parts) => h("div.product", parts);
const grid = (head, rows, tag = "table.list") => h(tag, h("thead", h("tr", head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", rows.map((cells) => h("tr", cells.map((cell, k) => (k ? h("td", cell) : h("th", { scope: "row" }, cell)))))));
const big = (text) => h("span.big", text);

// How one entry of a contribution came about, in numbers; words where it is not that simple.
// Every sum written here is computed and compared with the engine's number before it is shown.
const written = (x) => (x < 0 ? `(${digits(x)})` : digits(x));
function arithmetic(i, c, index) {
  const node = nodes[i], g = entries(node.grad), value = entries(c.value)[index], shape = nodes[c.node].shape;
  const told = (terms, total) => close(total, value, 2e-3) && `${terms.length > 8 ? [...terms.slice(0, 7), `… ${terms.length - 7} more`].join(" + ") : terms.join(" + ")} = ${digits(value)}`;
  const products = (pairs) => told(pairs.map(([a, b]) => `${written(a)} × ${written(b)}`), pairs.reduce((t, [a, b]) => t + a * b, 0));
  let text = null;
  if (g) {
    const slope = slopeOf(i, c);
    const args = node.parents.map((p) => (p >= 0 ? entries(nodes[p].value) : null));
    const shapes = node.parents.map((p) => (p >= 0 ? nodes[p].shape : []));
    if (slope?.data) {
      const from = g.map((_, o) => o).filter((o) => broadcastIndex(o, node.shape, shape) === index);
      text = products(from.map((o) => [g[o], entries(slope)[o]]));
    } else if (node.op === "matmul" && shapes.every((q) => q.length === 2) && args.every(Boolean)) {
      const [rows, inner] = shapes[0], columns = shapes[1][1];
      const r = Math.floor(index / shape[1]), q = index % shape[1];
      text = products(Array.from({ length: c.argument ? rows : columns }, (_, k) => (c.argument ? [args[0][k * inner + r], g[k * columns + q]] : [g[r * columns + k], args[1][q * columns + k]])));
    } else if (node.op === "sum" || node.op === "mean") {
      const n = size(nodes[c.node]) / Math.max(1, size(node)), each = node.op === "mean" ? 1 / n : 1;
      const source = g.find((x) => close(x * each, value, 1e-6));
      if (source !== undefined) text = node.op === "sum" ? `${digits(value)}: a sum passes its gradient on to every entry` : `${written(source)} ÷ ${n} = ${digits(value)}`;
    } else if (value === 0) text = "0: nothing flows to this entry";
    else if (g.some((x) => x === value)) text = `${digits(value)}: an entry of the gradient, put back where its value came from`;
  }
  return text || `${digits(value)} = ${ruleOf(i, c)}`;
}

// Which of the two terms of softmax minus one-hot this is, found in the numbers themselves.
function softmaxInsight(before, c) {
  const a = entries(before), b = entries(c.value), columns = nodes[c.node].shape.at(-1);
  if (!a || !b || c.of !== 2 || c.arrival !== 2 || nodes[c.node].shape.length !== 2 || columns < 2) return null;
  const rows = (x) => Array.from({ length: x.length / columns }, (_, k) => x.slice(k * columns, (k + 1) * columns));
  const spike = (r) => r.filter((x) => x !== 0).length === 1 && r.find((x) => x !== 0) < 0;
  const n = 1 / rows(b)[0].reduce((x, y) => x + y, 0);
  const onehot = rows(a).every((r) => spike(r) && close(r.find((x) => x !== 0), -1 / n, 1e-4));
  const softmax = rows(b).every((r) => r.every((x) => x >= 0) && close(r.reduce((x, y) => x + y, 0), 1 / n, 1e-4));
  return onehot && softmax ? { n: digits(n) } : null;
}

function contributionPart(i, c) {
  const whole = h("div.sent", h("h3", "To ", link(c.node)));
  const formula_ = localFormula(i, c);
  if (formula_) whole.append(h("div.formula", formula_));
  else whole.append(say("There arrives ", h("em", ruleOf(i, c)), ", where g is the gradient above."));
  if (!c.value) {
    whole.append(say("Its numbers are not kept in this page."));
    return whole;
  }
  const out = h("output.arith", "Point at a cell of the result: what made it?");
  const isArray = scalar(c.value) === null;
  const explain = typeof c.value.data === "object" ? (k) => (out.textContent = arithmetic(i, c, k)) : null;
  const slope = slopeOf(i, c);
  const factors = slope
    ? [heat(nodes[i].grad, math(gradOf(i))), big(isArray ? "⊙" : "×"), heat(slope, math(partial(term(i), term(c.node)))), big(size(nodes[i]) === size(nodes[c.node]) ? "=" : "summed =")]
    : [];
  whole.append(product(factors, heat(c.value, "sent to " + title(c.node), explain)));
  if (explain) whole.append(out);
  whole.append(c.of > 1 ? runningSum(c) : h("div.sum", title(c.node), " is used once, so this is its whole gradient: ", math(gradOf(c.node)), isArray ? "." : ` = ${digits(scalar(c.value))}.`));
  return whole;
}
// The local derivative entry by entry: the engine's, or ours if it makes the engine's contribution.
function slopeOf(i, c) {
  if (c.slope || !c.value) return c.slope;
  const ours = slopes(i, c.argument), g = entries(nodes[i].grad), value = entries(c.value), { shape } = nodes[i];
  if (!ours || !g || !value) return null;
  const made = value.map(() => 0);
  ours.forEach((d, o) => (made[broadcastIndex(o, shape, nodes[c.node].shape)] += d * g[o]));
  return made.every((x, k) => close(x, value[k], 1e-4)) ? { data: shape.length ? ours : ours[0], columns: shape.at(-1) } : null;
}

function runningSum(c) {
  const head = say(h("strong", `${title(c.node)} is used ${c.of} times, so contributions add up: arrival ${c.arrival} of ${c.of}.`));
  if (c.arrival === 1) return h("div.sum", head, say(c.of - 1 === 1 ? "One more is to come." : `${c.of - 1} more are to come.`));
  const before = arrivals[c.node][c.arrival - 2].c.total;
  const insight = softmaxInsight(before, c);
  const over = (...a) => math(frac(a, mi("N")));
  const names = insight
    ? [over(mo("−"), m("mtext", "onehot")), over(m("mtext", "softmax")), over(mi("p"), mo("−"), mi("t"))]
    : ["so far", "this one", c.arrival === c.of ? math(gradOf(c.node)) : "so far"];
  const out = h("output.arith");
  const [a, b, t] = [before, c.value, c.total].map(entries);
  const explain = a && t && typeof c.total.data === "object" ? (k) => (out.textContent = `${digits(a[k])} + ${written(b[k])} = ${digits(t[k])}`) : null;
  return h("div.sum", head,
    product(heat(before, names[0]), big("+"), heat(c.value, names[1]), big("="), heat(c.total, names[2], explain)),
    explain ? out : null,
    insight ? h("div.insight", h("strong", "Softmax minus one-hot. "), `The first arrival came from picking the right class: −1/N there, 0 elsewhere (N = ${insight.n}). This one came through the exponential: it is the softmax p, over N. Their sum is (p − t)/N: a step against it lowers every wrong class by its probability and raises the right one by what it lacks.`) : null);
}

function stepPart(p) {
  const i = nodeAt(p), node = nodes[i], g = hider(i), what = phaseAt(p);
  const head = h("h2", { class: what }, `${what === "forward" ? "Forward" : "Backward"} through ${title(i)}`);
  if (g >= 0) {
    const group = groups[g];
    return [head, say(`One of ${count(group.count, "operation")} in the folded box ${clean(group.name)}; the arrow keys pass it in one step.`), what === "backward" && group.norm !== null ? say(`The gradient at its border has norm ${digits(group.norm)}.`) : null, say(button("Open it", () => toggle(g)))];
  }
  if (what === "forward") {
    const args = node.parents.map((q) => (q < 0 ? null : heat(nodes[q].value, math(term(q)))));
    return [head, h("div.formula", formula(i)), node.params ? say("with ", clean(node.params)) : null, h("h3", "Takes"), product(args), h("h3", "Gives"), product(heat(node.value, math(term(i)))), places(i)];
  }
  const to = sent(i);
  return [head, say(i === data.loss ? "The backward pass starts here: the derivative of the loss by itself is 1. " : `All of the gradient of ${title(i)} has arrived. `, to.length ? "It sends each argument: upstream gradient times local derivative." : "None of its arguments needs a gradient."),
    h("div.formula", formula(i)), to.some((c) => slopeOf(i, c)) ? null : [h("h3", "Upstream gradient"), product(heat(node.grad, math(gradOf(i))))], to.map((c) => contributionPart(i, c))];
}

const places = (i) => {
  const path = pathOf(nodes[i].group).map((g) => clean(groups[g].name));
  return path.length ? say("In ", h("em", path.join(" / "))) : null;
};

function nodePart(i, p) {
  const node = nodes[i], known = valueKnown(i, p), { have, of } = arrived(i, p);
  const facts = [{ input: "constant input", parameter: "parameter (leaf)", operation: node.op, loss: `the loss: ${node.op}` }[node.kind], shapeText(node.shape), node.dtype, node.saved ? "values kept for the backward pass" : null, node.fused ? "a fused operation" : null];
  const gradient = have && have >= of && reached(i) ? product(heat(node.grad, math(gradOf(i))), size(node) > 1 ? `norm ${digits(node.norm)}` : null) : say(gradientAt(i, p) || "A constant: no gradient is computed for it.");
  const list = (before, items) => items.length ? say(before, items.slice(0, 12).map((item, k) => [k ? ", " : "", item]), items.length > 12 ? `, and ${items.length - 12} more` : "") : null;
  const from = (a) => [link(a.from), a.c.value ? `: ${line(a.c.value)}` : ""];
  return [h("h2", title(i)), say(facts.filter(Boolean).join(", ")), places(i), isLeaf(i) ? null : h("div.formula", formula(i)),
    h("h3", "Value"), product(known ? heat(node.value, math(term(i))) : say("? (not computed yet)")),
    h("h3", "Gradient"), gradient, have ? list("It came from ", arrivals[i].filter((a) => a.at <= p).map(from)) : null,
    node.nudged && !live ? nudgedPart(node.nudged) : null,
    list("Takes ", node.parents.filter((q) => q >= 0).map((q) => link(q))), list("Used by ", users[i].map((u) => link(u.node)))];
}

const nudgeTable = (head, rows) => [grid([head, "gradient", "central difference", "differ by"], rows.map(([what, g, d]) => (g === null ? [what, "constant", digits(d, 7), ""] : [what, digits(g, 7), digits(d, 7), digits(Math.abs(g - d), 2)]))), say("(L(x + h) − L(x − h)) / 2h with h = 1e−5 · max(1, |x|)")];
const nudgedPart = ({ at, grad, difference }) => h("details", h("summary", "Check by nudging"), nudgeTable("entry", at.map((k, j) => [`[${k.join(", ")}]`, grad[j], difference[j]])));

function legend() {
  const icon = (text, ...drawn) => h("li", s("svg", { width: 34, height: 24, viewBox: "-4 -2 42 28", "aria-hidden": "true" }, drawn), text);
  const kinds = { input: "constant input", parameter: "parameter", operation: "operation", loss: "loss", fold: "folded box" };
  const wide_ = s("path.edge.felt", { d: "M0 10H34" });
  wide_.style.strokeWidth = "4px";
  return h("ul.legend", Object.entries(kinds).map(([kind, text]) => icon(text, s(`g.card.${kind}`, shapeOf(kind, 32, 20)))), icon("gradient: wider is larger", wide_), icon("no gradient flows", s("path.edge.none", { d: "M0 10H34" })),
    icon("value kept for the backward pass", s("circle.saved", { cx: 17, cy: 10, r: 3 })), nodes.some((n) => n.fused) ? icon("fused operation", s("path.fused", { d: "M12 7h9m-9 3h9m-9 3h9" })) : null);
}

function overview(p) {
  const loss = nodes[data.loss], parameters = nodes.filter((n) => n.kind === "parameter").length;
  const sizes = nodes.map((_, i) => i).filter((i) => nodes[i].kind === "parameter" && nodes[i].norm !== null).sort((a, b) => nodes[b].norm - nodes[a].norm);
  const keys = [["←", "→", "step"], ["Home", "End", "first, last"], ["Space", "play"], ["Tab", "walk the cards"], ["Enter", "open"], ["/", "find"], ["Esc", "back"]];
  const begin = p === 0
    ? [h("h2", "Before the forward pass"), say("Inputs and parameters are known. Every other card shows ?: predict it, then press →.")]
    : [h("h2", "The finished picture"), say("The loss ", math(term(data.loss)), " is ", h("strong", { id: "loss", "data-value": full(scalar(loss.value) ?? "") }, line(loss.value)), `. ${count(F, "operation")} and ${count(parameters, "parameter")} lead to it; ${live?.changed() ? "the numbers are yours" : "every number is the engine's"}.`)];
  return [...begin, h("p.noprint", button(p === 0 ? "First step" : "Step through it from the start", () => go(p === 0 ? ahead(0) : 0))), legend(),
    p > 0 && sizes.length ? [h("h3", "Largest gradients"), grid(["parameter", "shape", "gradient"], sizes.slice(0, 8).map((i) => [link(i, [...pathOf(nodes[i].group).map((g) => clean(groups[g].name, 40)), title(i)].slice(-3).join(" / ")), shapeText(nodes[i].shape), gradientText(nodes[i])]))] : null,
    h("p.keys", keys.map(([...k]) => [k.slice(0, -1).map((x) => [h("kbd", x), " "]), k.at(-1), "   "]))];
}
