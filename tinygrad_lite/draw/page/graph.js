// The picture: draws what `layout` placed, and shows at every position what is known by then.

const pen = document.createElement("canvas").getContext("2d");
const WIDEST = 200;
const FONT = { name: "700 13px Helvetica, Arial, sans-serif", text: "12px Helvetica, Arial, sans-serif" }; // as in the style
const wide = (text, font) => ((pen.font = FONT[font]), pen.measureText(text).width);
function cut(text, font, room = WIDEST) {
  if (wide(text, font) <= room) return text;
  let n = Math.min(text.length, 80);
  while (n > 1 && wide(text.slice(0, n) + "…", font) > room) n--;
  return text.slice(0, n) + "…";
}
const nameOf = (g) => cut(clean(groups[g].name) || "(no name)", "name");

const picture = { placed: null, cards: new Map(), edges: [], scale: 1 };
const flows = nodes.flatMap((node) => node.flow).filter((x) => Number(x) > 0).map(Number);
const range = (list) => list.reduce(([a, b], x) => [Math.min(a, x), Math.max(b, x)], [Infinity, -Infinity]);
const [least, most] = range(flows);
const floor = Math.max(least, most * 1e-6); // widths tell six decades apart
const width = (x) => (x > 0 ? 1.4 + 3.4 * (most > floor ? Math.min(1, Math.max(0, Math.log(x / floor) / Math.log(most / floor))) : 0.5) : 1.2);

// What a card says, at a position on the time line.
function cardText(item, p) {
  if (item.group !== undefined) {
    const { takes, leaving, grad } = insideOps[item.group];
    const parts = [count(groups[item.group].count, "node"), takes.size ? count(takes.size, "param") : null, leaving.has(data.loss) ? "the loss" : null];
    const norms = [...leaving].map((i) => nodes[i].norm).filter((x) => x !== null);
    return { head: nameOf(item.group), side: "+", value: parts.filter(Boolean).join(" · "), grad: norms.length ? `‖∇‖ ${p >= grad ? digits(Math.hypot(...norms)) : "?"}` : "" };
  }
  const i = item.node, node = nodes[i], named_ = node.name !== null;
  const axis = axisOf(node) === null ? "" : ` axis=${axisOf(node)}`;
  const head = named_ || isLeaf(i) ? title(i) : symbol(node) + axis;
  const side = cut(named_ ? (isLeaf(i) ? "" : symbol(node) + axis) : node.kind === "input" ? "" : labels[i], "text", 80);
  const bare = node.kind === "input" && !named_ && scalar(node.value) !== null;
  const value = bare ? "constant" : [node.shape.length ? shapeText(node.shape) : null, valueKnown(i, p) ? line(node.value) : "?"].filter(Boolean).join("  ");
  return { head, side, value, grad: gradientAt(i, p) };
}
function gradientAt(i, p) {
  if (nodes[i].kind === "input") return "";
  if (!backwardOrder.length) return "no gradient yet";
  const { have, of, total } = arrived(i, p);
  if (!reached(i)) return "no gradient";
  if (have === 0) return "∇ ?";
  if (have >= of) return gradientText(nodes[i]);
  const all = entries(total);
  const part = !all ? "…" : all.length === 1 ? `∇ ${digits(all[0])}` : `‖∇‖ ${digits(Math.hypot(...all))}`;
  return `${part} (${have} of ${of})`;
}
// Of every group: the positions at which all of it is known, the parameters that it takes, and the
// nodes whose values leave it (what is said of its gradient is theirs).
const insideOps = groups.map(() => ({ value: 0, grad: 0, takes: new Set(), leaving: new Set() }));
for (const i of forwardOrder) for (const g of pathOf(nodes[i].group)) {
  const group = insideOps[g];
  group.value = Math.max(group.value, forwardAt.get(i));
  group.grad = Math.max(group.grad, backwardAt.get(i) || 0);
  for (const j of nodes[i].parents) if (nodes[j]?.kind === "parameter") group.takes.add(j);
  if (i === data.loss || users[i].some((u) => !pathOf(nodes[u.node].group).includes(g))) group.leaving.add(i);
}

function measureCard(item) {
  const t = cardText(item, LAST);
  const more = arrivals[item.node]?.length > 1 ? wide(" (1 of 2)", "text") : 0;
  const w = Math.max(wide(cut(t.head, "name"), "name") + (t.side ? wide(t.side, "text") + 12 : 0), wide(cut(t.value, "text"), "text"), wide(t.grad, "text") + more + (nodes[item.node]?.fused ? 24 : 14), 62);
  return { w: Math.ceil(w) + 24, h: t.grad ? 62 : 46 };
}

function outline(kind, w, h_) { // shapes differ too: colour is never the only sign
  if (kind === "input") return `M8 0H${w}V${h_}H8Q-6 ${h_ / 2} 8 0Z`;
  if (kind === "parameter") return `M9 0H${w - 9}L${w} 9V${h_ - 9}L${w - 9} ${h_}H9L0 ${h_ - 9}V9Z`;
  const r = kind === "loss" ? 3 : 7;
  return `M${r} 0H${w - r}Q${w} 0 ${w} ${r}V${h_ - r}Q${w} ${h_} ${w - r} ${h_}H${r}Q0 ${h_} 0 ${h_ - r}V${r}Q0 0 ${r} 0Z`;
}
function shapeOf(kind, w, h_) {
  return [
    (kind === "fold" ? [6, 3, 0] : [0]).map((by) => s("path.shape", { d: outline(kind, w, h_), transform: `translate(${by} ${by})` })),
    kind === "loss" ? s("rect.inner", { x: 3.5, y: 3.5, width: w - 7, height: h_ - 7, rx: 1 }) : null,
  ];
}

function drawGraph() {
  const seen = visible();
  const measured = new Map(seen.keys.map((item) => [item.key, measureCard(item)]));
  const boxes = [...seen.homeOf.keys()].filter((k) => k[0] === "b");
  for (const key of boxes) measured.set(key, { w: wide(nameOf(key.slice(1)), "name") + 44, h: 0 });
  const canvas = $("canvas"), room = { w: canvas.clientWidth || 900, h: (canvas.clientHeight || 644) - 44 };
  const fits = (l) => Math.min(room.w / l.w, room.h / l.h, 1.4);
  let placed = layout(seen, measured, false);
  if (seen.keys.length <= 60) { // downwards, unless it fits from left to right
    const right = layout(seen, measured, true);
    if (fits(right) >= 0.8 || (placed.w > room.w && fits(right) > fits(placed))) placed = right;
  }
  picture.placed = placed;
  picture.fitted = fits(placed);
  const ground = (key) => { const q = placed.where.get(key); return s("rect.ground", { x: q.x, y: q.y, width: q.w, height: q.h, rx: 8 }); };
  const box = (key) => {
    const q = placed.where.get(key), g = Number(key.slice(1));
    return s("g.box", { role: "button", tabindex: 0, "aria-expanded": "true", "data-key": key, transform: `translate(${q.x} ${q.y})`, click: () => toggle(g) },
      s("rect.frame", { width: q.w, height: q.h, rx: 8 }), s("text", { x: 10, y: 17 }, nameOf(g)), s("text", { x: q.w - 18, y: 17 }, "−"));
  };
  const card = (item) => {
    const q = placed.where.get(item.key), folded = item.group !== undefined;
    const kind = folded ? "fold" : nodes[item.node].kind;
    const parts = { head: s("text.name", { x: 12, y: 20 }), side: s("text.quiet", { x: q.w - 12, y: 19, "text-anchor": "end" }), value: s("text", { x: 12, y: 36 }), grad: s("text.grad", { x: 12, y: 52 }) };
    const marks = folded ? [] : [nodes[item.node].saved ? s("circle.saved", { cx: q.w - 11, cy: q.h - 11, r: 3 }) : null, nodes[item.node].fused ? s("path.fused", { d: `M${q.w - 31} ${q.h - 14}h9m-9 3h9m-9 3h9` }) : null];
    const attributes = folded ? { role: "button", tabindex: 0, "aria-expanded": "false", click: () => toggle(item.group) } : linked(item.node);
    const element = s(folded ? "g" : "a", { class: `card ${kind}`, "data-key": item.key, transform: `translate(${q.x} ${q.y})`, ...attributes }, shapeOf(kind, q.w, q.h), Object.values(parts), marks);
    picture.cards.set(item.key, { item, element, parts, w: q.w, kind });
    return element;
  };
  picture.cards.clear();
  picture.edges = seen.edges.map((edge, k) => ({ ...edge, element: s("path.edge", { d: placed.lines[k], "marker-end": "url(#head)" }) }));
  const tip = s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerUnits: "userSpaceOnUse", markerWidth: 11, markerHeight: 11, orient: "auto" }, s("path", { d: "M0 .8L7.5 4L0 7.2Z", fill: "context-stroke" }));
  const svg = s("svg", { role: "group", "aria-label": `Graph: ${seen.keys.length} cards`, viewBox: `0 0 ${placed.w} ${placed.h}` },
    s("g", { "aria-hidden": "true" }, tip, boxes.map(ground), picture.edges.map((e) => e.element)), boxes.map(box), seen.keys.map(card)); // names are above arrows
  canvas.replaceChildren(svg);
  zoom(Math.max(picture.fitted, 0.9));
}

function zoom(scale) {
  picture.scale = scale;
  for (const [side, length] of [["width", picture.placed.w], ["height", picture.placed.h]]) $("canvas").firstElementChild.setAttribute(side, Math.floor(length * scale));
}

const cardOf = (i) => { // the keys of the cards that stand for a node: its own, or closed boxes that have or take it
  const own = [...picture.cards.keys()].filter((k) => k.split("@")[0] === KEY.card(i));
  return own.length ? own : (isLeaf(i) ? users[i].map((u) => u.node) : [i]).map((j) => KEY.fold(hider(j)));
};

function updateGraph(p, focus, near) {
  const phase = phaseAt(p), now = new Set(focus === null ? [] : cardOf(focus)), around = new Set(near.flatMap(cardOf));
  for (const [key, { item, element, parts, w, kind }] of picture.cards) {
    const t = cardText(item, p);
    parts.head.textContent = cut(t.head, "name", w - 24 - (t.side ? wide(t.side, "text") + 8 : 0)) + " "; // a space: what a screen reader says are words
    parts.side.textContent = t.side + " ";
    parts.value.textContent = cut(t.value, "text", w - 22) + " ";
    parts.grad.textContent = cut(t.grad, "text", w - 20);
    const ahead = item.node !== undefined ? !valueKnown(item.node, p) : p < insideOps[item.group].value;
    element.setAttribute("class", `card ${kind}${ahead ? " ahead" : ""}${now.has(key) ? " now" : around.has(key) ? " near" : ""}`);
    element.ariaDescription = kind === "fold" ? "folded box" : [kind, nodes[item.node].op].filter(Boolean).join(", ");
    element.ariaCurrent = now.has(key) ? "step" : null;
  }
  const current = nodeAt(p);
  for (const { uses, element } of picture.edges) {
    const felt = uses.filter((u) => Number(nodes[u.target].flow[u.argument]) > 0);
    const done = felt.filter((u) => backwardAt.has(u.target) && backwardAt.get(u.target) <= p);
    const mine = uses.some((u) => u.target === current);
    const some = done.reduce((a, u) => Math.hypot(a, Number(nodes[u.target].flow[u.argument])), 0);
    const aft = mine && phase === "backward" && felt.length > 0;
    const ahead = uses.every((u) => !valueKnown(u.target, p));
    element.setAttribute("class", `edge${felt.length ? "" : " none"}${some ? " felt" : ""}${ahead ? " ahead" : ""}${mine && phase === "forward" ? " fore" : ""}${aft ? " aft" : ""}`);
    element.style.strokeWidth = some && !mine ? `${width(some)}px` : "";
  }
}

// Brings a card into the middle of what can be seen, if it is not there.
function show(i) {
  const element = picture.cards.get(cardOf(i)[0])?.element, canvas = $("canvas");
  if (!element) return;
  const a = element.getBoundingClientRect(), b = canvas.getBoundingClientRect(), rim = 40;
  if (a.top < b.top + rim || a.bottom > b.bottom - rim) canvas.scrollTop += (a.top + a.bottom - b.top - b.bottom) / 2;
  if (a.left < b.left + rim || a.right > b.right - rim) canvas.scrollLeft += (a.left + a.right - b.left - b.right) / 2;
}
