// Where cards, boxes and arrows go. Each open box is laid out by itself with dagre and then is one
// card of the box around it: boxes can never overlap, and only what can be seen is laid out. An
// arrow that crosses a border goes through a port there. All is computed with the gradient flowing
// along `m` (main) and across along `c`; the picture is turned at the end if it fits better so.

const KEY = { card: (i) => `n${i}`, fold: (g) => `g${g}`, box: (g) => `b${g}` };

// What there is to see: items of every open box, and arrows between cards. A leaf stands once in
// every open box in which an operation takes it; a closed box only counts the leaves it takes, so
// that parameters of many time steps send no arrows across the whole picture.
function visible() {
  const inside = new Map([[-1, []]]); // box: keys of its items
  const homeOf = new Map(); // key: box
  const keys = [], edges = new Map();
  const put = (key, box, item) => {
    if (homeOf.has(key)) return key;
    homeOf.set(key, box);
    inside.get(box).push(key);
    if (item) keys.push({ key, ...item });
    else inside.set(Number(key.slice(1)), []);
    return key;
  };
  const place = (i) => { // of an operation
    let box = -1;
    for (const g of pathOf(nodes[i].group)) {
      if (!open.has(g)) return [KEY.fold(g), box, { group: g }];
      put(KEY.box(g), box);
      box = g;
    }
    return [KEY.card(i), box, { node: i }];
  };
  for (const target of forwardOrder) {
    const [to, box, item] = place(target);
    nodes[target].parents.forEach((source, argument) => {
      if (source < 0 || (isLeaf(source) && item.group !== undefined)) return;
      const from = isLeaf(source) ? put(`${KEY.card(source)}@${box}`, box, { node: source }) : put(...place(source));
      if (from === to) return;
      const id = `${from}>${to}`;
      if (!edges.has(id)) edges.set(id, { from, to, uses: [] });
      edges.get(id).uses.push({ target, argument });
    });
    put(to, box, item);
  }
  return { inside, homeOf, keys, edges: [...edges.values()] };
}

// The arrows as pieces inside single boxes: from an item or the port "in:…" to an item or "out:…".
function pieces(seen) {
  const boxes = new Map([...seen.inside.keys()].map((g) => [g, new Map()]));
  for (const edge of seen.edges) {
    const source = edge.from;
    const out = pathOf(seen.homeOf.get(source)), into = pathOf(seen.homeOf.get(edge.to));
    const left = out.filter((g) => !into.includes(g)).reverse();
    const stops = [...left, out.findLast((g) => into.includes(g)) ?? -1, ...into.filter((g) => !out.includes(g))];
    edge.route = stops.map((box, k) => {
      const from = k === 0 ? source : k <= left.length ? KEY.box(stops[k - 1]) : `in:${source}`;
      const to = k === stops.length - 1 ? edge.to : k < left.length ? `out:${source}` : KEY.box(stops[k + 1]);
      const id = `${from}>${to}>${source}`, known = boxes.get(box);
      if (!known.has(id)) known.set(id, { from, to, source });
      return { box, piece: known.get(id) };
    });
  }
  return boxes;
}

function layoutBox(box, plan) {
  const { seen, boxes, sizes, across, done } = plan;
  const list = [...boxes.get(box).values()], items = seen.inside.get(box);
  const own = new Map(items.map((key) => [key, key[0] === "b" ? layoutBox(Number(key.slice(1)), plan) : sizes.get(key)]));
  const ports = (way) => [...new Set(list.flatMap((p) => [p.from, p.to]).filter((k) => k.startsWith(way)))];
  const entries_ = ports("in:"), exits = ports("out:"), all = [...items, ...entries_, ...exits];
  const free = items.filter((k) => !list.some((p) => p.to === k)), first = entries_.length > 1 ? 0 : free.length / 2;
  // hubs beyond the border hold the ports there, and keep the leaves from it; dagre begins with the
  // order in which it is given things: a single arrow then comes in amid the leaves
  const ranked = (ports_) => {
    const graph = new dagre.graphlib.Graph({ multigraph: true });
    graph.setGraph({ nodesep: 18, edgesep: 12, ranksep: 38, rankalign: "bottom" });
    for (const key of all) graph.setNode(key, { width: own.get(key)?.c ?? 0, height: own.get(key)?.m ?? 0 });
    list.forEach((p, k) => graph.setEdge(p.from, p.to, { weight: 3 }, `p${k}`));
    if (ports_.length) for (const k of [...free.slice(0, first), ...ports_, ...free.slice(first)]) graph.setEdge("before", k, ports_.includes(k) ? { weight: 50 } : { weight: 0.01, minlen: 2 });
    for (const k of exits) graph.setEdge(k, "after", { weight: 50 });
    dagre.layout(graph);
    return graph;
  };
  const length = (graph) => list.reduce((sum, p, k) => graph.edge(p.from, p.to, `p${k}`).points.reduce((d, q, j, line_) => d + Math.abs(q.x - (line_[j - 1] ?? q).x), sum), 0);
  // dagre's order is not the best: take the shorter of two
  const graph = [ranked(entries_), ranked(entries_.toReversed())].sort((a, b) => length(a) - length(b))[0];

  const pad = { c0: across ? 26 : 14, c1: 14, m0: entries_.length ? 0 : across ? 14 : 28, m1: exits.length ? 0 : 14 };
  let c0 = Infinity, c1 = -Infinity, m0 = Infinity, m1 = -Infinity;
  const grow = (c, m_, w = 0, t = 0) => { c0 = Math.min(c0, c - w / 2); c1 = Math.max(c1, c + w / 2); m0 = Math.min(m0, m_ - t / 2); m1 = Math.max(m1, m_ + t / 2); };
  // an arrow that passes a rank keeps straight beside its cards; it bends only between ranks
  const tops = new Map();
  const top_ = (y) => tops.get(Math.round(y)) ?? y;
  for (const k of all) {
    const n = graph.node(k), low = n.y + n.height / 2;
    grow(n.x, n.y, n.width, n.height);
    tops.set(Math.round(low), Math.min(top_(low), low - n.height));
  }
  const bends = list.map((p, k) => {
    const end = graph.node(p.to), high = top_(end.y + end.height / 2);
    const inner = graph.edge(p.from, p.to, `p${k}`).points.slice(1, -1).filter((_, j) => j % 2);
    return [...inner.flatMap((q) => [{ x: q.x, y: top_(q.y) }, q]), ...(high < end.y - end.height / 2 - 1 ? [{ x: end.x, y: high }] : [])];
  });
  bends.flat().forEach((q) => grow(q.x, q.y));
  // a box with one way through gets room on one side, so that the way is its middle: chains are straight
  const [port] = [...entries_, ...exits], lean = port && c0 + c1 - 2 * graph.node(port).x;
  if (entries_.length < 2 && exits.length < 2 && Math.abs(lean) < 90) {
    c0 -= Math.max(lean, 0);
    c1 -= Math.min(lean, 0);
  }
  const least_ = sizes.get(KEY.box(box)) || { c: 0, m: 0 }; // room for its name
  const spare = Math.max(0, least_.c - (c1 - c0 + pad.c0 + pad.c1)) / 2;
  c0 -= spare;
  c1 += spare;
  // mirrored: dagre breaks ties with the last to the left
  const shift = (x, y) => ({ c: c1 - x + pad.c0, m: y - m0 + pad.m0 });
  const middle = (key) => shift(graph.node(key).x, 0).c;
  list.forEach((p, k) => Object.assign(p, { points: bends[k].map((q) => shift(q.x, q.y)), ends: [middle(p.from), middle(p.to)] }));
  const at = new Map(all.map((key) => {
    const n = graph.node(key);
    return [own.has(key) ? key : `${key}@${box}`, { ...shift(n.x + n.width / 2, n.y - n.height / 2), w: n.width, t: n.height }];
  }));
  const result = { at, c: c1 - c0 + pad.c0 + pad.c1, m: Math.max(least_.m, m1 - m0 + pad.m0 + pad.m1) };
  done.set(box, result);
  return result;
}

function layout(seen, measured, across) {
  const sizes = new Map([...measured].map(([key, q]) => [key, across ? { c: q.h, m: q.w } : { c: q.w, m: q.h }]));
  const boxes = pieces(seen), done = new Map();
  const whole = layoutBox(-1, { seen, boxes, sizes, across, done });
  const where = new Map([["b-1", { c: 0, m: 0 }]]); // spots of cards, boxes and ports ("in:…@box") in the whole picture
  for (const box of seen.inside.keys()) { // outer boxes come before inner ones
    const base = where.get(KEY.box(box));
    for (const [key, spot] of done.get(box).at) where.set(key, { ...spot, c: base.c + spot.c, m: base.m + spot.m });
  }
  // where arrows touch a card: spread along its side, in the order in which they come
  for (const end of ["from", "to"]) {
    const all = [...boxes.values()].flatMap((map) => [...map.values()]).filter((p) => where.has(p[end]) && p[end][0] !== "b");
    const near = ({ points, ends }) => (end === "from" ? points[0]?.c ?? ends[1] : points.findLast((q) => q.c !== ends[1])?.c ?? ends[0]);
    for (const [key, list] of Map.groupBy(all, (p) => p[end])) {
      const spot = where.get(key), gap = Math.min(22, (spot.w * 0.7) / list.length);
      list.sort((a, b) => near(a) - near(b)).forEach((p, k) => (p[`${end}C`] = spot.c + spot.w / 2 + (k - (list.length - 1) / 2) * gap));
    }
  }
  const lines = seen.edges.map(({ from, to, route }) => {
    const start = where.get(from), points = [{ c: route[0].piece.fromC, m: start.m + start.t }];
    route.forEach(({ box, piece }, k) => {
      const base = where.get(KEY.box(box)), next = route[k + 1];
      points.push(...piece.points.map((p) => ({ c: p.c + base.c, m: p.m + base.m })));
      if (!next) points.push({ c: piece.toC, m: where.get(to).m });
      else points.push(where.get(piece.to[0] === "o" ? `${piece.to}@${box}` : `${next.piece.from}@${next.box}`));
    });
    return curve(points.filter((p, k) => !k || p.m > points[k - 1].m + 0.5), across);
  });
  const turn = (q) => (across ? { x: q.m, y: q.c, w: q.t, h: q.w } : { x: q.c, y: q.m, w: q.w, h: q.t });
  return { where: new Map([...where].map(([key, q]) => [key, turn(q)])), lines, w: across ? whole.m : whole.c, h: across ? whole.c : whole.m };
}

// A smooth line that never turns back along the main direction (monotone cubic), as an SVG path.
function curve(points, across) {
  const at = (c, m_) => (across ? `${m_.toFixed(1)} ${c.toFixed(1)}` : `${c.toFixed(1)} ${m_.toFixed(1)}`);
  const n = points.length, slope = points.map((p, k) => {
    if (k === 0 || k === n - 1) return 0;
    const a = (p.c - points[k - 1].c) / (p.m - points[k - 1].m), b = (points[k + 1].c - p.c) / (points[k + 1].m - p.m);
    return a * b <= 0 ? 0 : (2 * a * b) / (a + b);
  });
  let path = `M${at(points[0].c, points[0].m)}`;
  for (let k = 1; k < n; k++) {
    const a = points[k - 1], b = points[k], third = (b.m - a.m) / 3;
    path += `C${at(a.c + slope[k - 1] * third, a.m + third)} ${at(b.c - slope[k] * third, b.m - third)} ${at(b.c, b.m)}`;
  }
  return path;
}
