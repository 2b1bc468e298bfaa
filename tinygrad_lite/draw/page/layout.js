// Where cards, boxes and arrows go. Each open box is laid out by itself with dagre and then is one
// card of the box around it: boxes can never overlap, and only what can be seen is laid out. An
// arrow that crosses a border goes through a port there. All is computed with the gradient flowing
// along `m` (main) and across along `c`; the picture is turned at the end if it fits better so.

const KEY = { card: (i) => `n${i}`, copy: (i, box) => `n${i}@${box}`, fold: (g) => `g${g}`, box: (g) => `b${g}` };

// What there is to see: items of every open box, and arrows between cards.
function visible() {
  const inside = new Map([[-1, []]]); // box: keys of its items
  const homeOf = new Map(); // key: box
  const keys = [];
  const put = (key, box, item) => {
    if (homeOf.has(key)) return;
    homeOf.set(key, box);
    inside.get(box).push(key);
    keys.push({ key, ...item });
  };
  const openBox = (path) => {
    let outer = -1;
    for (const g of path) {
      if (!inside.has(g)) {
        inside.set(g, []);
        inside.get(outer).push(KEY.box(g));
        homeOf.set(KEY.box(g), outer);
      }
      outer = g;
    }
    return outer;
  };
  const place = (i) => {
    const g = hider(i), path = pathOf(nodes[i].group);
    return g < 0 ? { box: openBox(path), key: KEY.card(i), item: { node: i } } : { box: openBox(path.slice(0, path.indexOf(g))), key: KEY.fold(g), item: { group: g } };
  };
  const edges = new Map();
  nodes.forEach((node, target) => {
    if (isLeaf(target)) {
      return; // its cards are drawn with its users
    }
    const to = place(target);
    const arguments_ = node.parents.map((source, argument) => {
      if (source < 0) return null;
      const from = place(source);
      if (from.key === to.key) return null;
      // a leaf has one card per box that uses it, instead of arrows across the whole picture
      if (isLeaf(source) && from.item.node !== undefined && from.box !== to.box) Object.assign(from, { box: to.box, key: KEY.copy(source, to.box) });
      put(from.key, from.box, from.item);
      return { from: from.key, argument };
    });
    put(to.key, to.box, to.item);
    for (const use of arguments_.filter(Boolean)) {
      const id = `${use.from}>${to.key}`;
      if (!edges.has(id)) edges.set(id, { from: use.from, to: to.key, uses: [] });
      edges.get(id).uses.push({ target, argument: use.argument });
    }
  });
  return { inside, homeOf, keys, edges: [...edges.values()] };
}

// The arrows as pieces inside single boxes: from an item or the port "in:…" to an item or "out:…".
function pieces(seen) {
  const boxes = new Map([...seen.inside.keys()].map((g) => [g, new Map()]));
  const piece = (box, from, to, source) => {
    const id = `${from}>${to}>${source}`;
    if (!boxes.get(box).has(id)) boxes.get(box).set(id, { from, to, source });
    return { box, piece: boxes.get(box).get(id) };
  };
  for (const edge of seen.edges) {
    const out = pathOf(seen.homeOf.get(edge.from)), into = pathOf(seen.homeOf.get(edge.to));
    let common = 0;
    while (common < out.length && out[common] === into[common]) common++;
    const route = [];
    const source = edge.from;
    for (let k = out.length - 1; k >= common; k--) route.push(piece(out[k], k === out.length - 1 ? edge.from : KEY.box(out[k + 1]), `out:${source}`, source));
    route.push(piece(common ? out[common - 1] : -1, out.length > common ? KEY.box(out[common]) : edge.from, into.length > common ? KEY.box(into[common]) : edge.to, source));
    for (let k = common; k < into.length; k++) route.push(piece(into[k], `in:${source}`, k === into.length - 1 ? edge.to : KEY.box(into[k + 1]), source));
    edge.route = route;
  }
  return boxes;
}

function layoutBox(box, seen, boxes, sizes, across, done) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ nodesep: across ? 14 : 20, edgesep: 12, ranksep: across ? 44 : box < 0 ? 46 : 36, rankalign: "bottom" });
  const list = [...boxes.get(box).values()], items = seen.inside.get(box);
  const inner = new Map();
  for (const key of items) {
    const size = key[0] === "b" ? layoutBox(Number(key.slice(1)), seen, boxes, sizes, across, done) : sizes.get(key);
    inner.set(key, size);
    graph.setNode(key, { width: size.c, height: size.m });
  }
  const ports = (way) => [...new Set(list.flatMap((p) => [p.from, p.to]).filter((k) => k.startsWith(way)))];
  const entries_ = ports("in:"), exits = ports("out:");
  for (const port of [...entries_, ...exits]) graph.setNode(port, { width: 10, height: 0 });
  const all = graph.nodes();
  list.forEach((p, k) => graph.setEdge(p.from, p.to, { weight: 3 }, `p${k}`));
  // ports stand at the border: before everything that nothing in the box comes before, and so on
  for (const [ports_, way, order] of [[entries_, "to", (a, b) => [a, b]], [exits, "from", (a, b) => [b, a]]]) {
    const busy = new Set(list.map((p) => p[way])), tie = `tie:${way}`;
    for (const port of ports_) {
      for (const k of items) if (!busy.has(k)) graph.setEdge(...order(port, k), { weight: 0 }, "x");
      if (ports_.length > 1) graph.setNode(tie, { width: 0, height: 0 }).setEdge(...order(port, tie), { weight: 50 }, "x");
    }
  }
  dagre.layout(graph);

  const pad = { c0: across ? 26 : 14, c1: 14, m0: entries_.length ? 0 : across ? 14 : 28, m1: exits.length ? 0 : 14 };
  if (box < 0) pad.c0 = pad.c1 = pad.m0 = pad.m1 = 16;
  let c0 = Infinity, c1 = -Infinity, m0 = Infinity, m1 = -Infinity;
  const grow = (c, m_, w = 0, t = 0) => { c0 = Math.min(c0, c - w / 2); c1 = Math.max(c1, c + w / 2); m0 = Math.min(m0, m_ - t / 2); m1 = Math.max(m1, m_ + t / 2); };
  // an arrow that passes a rank keeps straight beside its cards; it bends only between ranks
  const tops = new Map();
  const top_ = (y) => tops.get(Math.round(y)) ?? y;
  for (const k of all) {
    const n = graph.node(k), low = n.y + n.height / 2;
    grow(n.x, n.y, n.width, n.height);
    tops.set(Math.round(low), Math.min(top_(low), n.y - n.height / 2));
  }
  const bends = (p, k) => {
    const end = graph.node(p.to), low = end.y + end.height / 2;
    const inner_ = graph.edge(p.from, p.to, `p${k}`).points.slice(1, -1).filter((_, j) => j % 2);
    return [...inner_.flatMap((q) => [{ x: q.x, y: top_(q.y) }, q]), ...(p.to[0] !== "o" && top_(low) < end.y - end.height / 2 - 1 ? [{ x: end.x, y: top_(low) }] : [])];
  };
  list.forEach((p, k) => bends(p, k).forEach((q) => grow(q.x, q.y)));
  const shift = (x, y) => ({ c: x - c0 + pad.c0, m: y - m0 + pad.m0 });
  const at = new Map();
  for (const key of items) { const n = graph.node(key); at.set(key, shift(n.x - n.width / 2, n.y - n.height / 2)); }
  const portAt = new Map([...entries_, ...exits].map((k) => [k, shift(graph.node(k).x, 0).c]));
  list.forEach((p, k) => Object.assign(p, { points: bends(p, k).map((q) => shift(q.x, q.y)), ends: [p.from, p.to].map((e) => shift(graph.node(e).x, 0).c) }));
  const least_ = sizes.get(KEY.box(box)) || { c: 0, m: 0 }; // room for its name
  const result = { at, inner, portAt, c: Math.max(least_.c, c1 - c0 + pad.c0 + pad.c1), m: Math.max(least_.m, m1 - m0 + pad.m0 + pad.m1) };
  done.set(box, result);
  return result;
}

function layout(seen, measured, across) {
  const sizes = new Map([...measured].map(([key, q]) => [key, across ? { c: q.h, m: q.w } : { c: q.w, m: q.h }]));
  const boxes = pieces(seen), done = new Map();
  const whole = layoutBox(-1, seen, boxes, sizes, across, done);
  const where = new Map(), offset = new Map([[-1, { c: 0, m: 0 }]]);
  for (const [box, keys] of seen.inside) { // outer boxes come before inner ones
    const base = offset.get(box);
    for (const key of keys) {
      const p = done.get(box).at.get(key), q = done.get(box).inner.get(key);
      const spot = { c: base.c + p.c, m: base.m + p.m, w: q.c, t: q.m };
      where.set(key, spot);
      if (key[0] === "b") offset.set(Number(key.slice(1)), spot);
    }
  }
  // where arrows touch a card: spread along its side, in the order in which they come
  const touch = new Map();
  for (const [box, map] of boxes) for (const p of map.values()) for (const end of ["from", "to"]) {
    if (!where.has(p[end]) || p[end][0] === "b") continue;
    const id = `${p[end]}${end}`;
    if (!touch.has(id)) touch.set(id, []);
    const bent = p.points.filter((q) => q.c !== p.ends[1]), near = end === "from" ? bent[0] : bent.at(-1);
    touch.get(id).push({ piece: p, c: near ? near.c : p.ends[end === "from" ? 1 : 0] });
  }
  for (const [id, list] of touch) {
    const end = id.endsWith("from") ? "from" : "to";
    list.sort((a, b) => a.c - b.c);
    const spot = where.get(list[0].piece[end]), gap = Math.min(22, (spot.w * 0.7) / list.length);
    list.forEach((e, k) => (e.piece[`${end}C`] = spot.c + spot.w / 2 + (k - (list.length - 1) / 2) * gap));
  }
  const lines = seen.edges.map((edge) => {
    const points = [];
    edge.route.forEach(({ box, piece }, k) => {
      const base = offset.get(box);
      if (k === 0) { const spot = where.get(edge.from); points.push({ c: piece.fromC, m: spot.m + spot.t }); }
      points.push(...piece.points.map((p) => ({ c: p.c + base.c, m: p.m + base.m })));
      const spot = where.get(edge.to);
      if (k === edge.route.length - 1) points.push({ c: piece.toC, m: spot.m });
      else if (piece.to.startsWith("out:")) points.push({ c: base.c + done.get(box).portAt.get(piece.to), m: base.m + done.get(box).m });
      else { const g = edge.route[k + 1].box, next = offset.get(g); points.push({ c: next.c + done.get(g).portAt.get(`in:${piece.source}`), m: next.m }); }
    });
    return curve(points.filter((p, k) => !k || p.m > points[k - 1].m + 0.5), across);
  });
  const turn = (q) => (across ? { x: q.m, y: q.c, w: q.t, h: q.w } : { x: q.c, y: q.m, w: q.w, h: q.t });
  return { where: new Map([...where].map(([key, q]) => [key, turn(q)])), lines, w: across ? whole.m : whole.c, h: across ? whole.c : whole.m, across };
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
