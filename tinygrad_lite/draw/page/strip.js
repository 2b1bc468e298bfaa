// Every node at a glance: the size of its gradient as a dot, and everything as a table.

const dots = $("dots");
const sized = nodes.map((n, i) => i).filter((i) => nodes[i].kind !== "input" && nodes[i].rms !== null);
let spots = [];
function drawStrip() {
  if (!$("strip").open || !dots.clientWidth) return;
  const ratio = devicePixelRatio || 1, w = dots.clientWidth, tall = dots.clientHeight, left = 52, right = 10;
  dots.width = w * ratio;
  dots.height = tall * ratio;
  const draw = dots.getContext("2d");
  draw.scale(ratio, ratio);
  const colour = (variable) => ((dots.style.color = `var(--${variable})`), getComputedStyle(dots).color);
  const logs = sized.map((i) => Math.log10(Number(nodes[i].rms))), real = logs.filter(Number.isFinite);
  const [low_, high_] = range(real.length ? real : [0]), low10 = Math.floor(low_), high10 = Math.max(low10 + 1, Math.ceil(high_));
  const y = (log) => (Number.isFinite(log) ? 8 + ((high10 - log) / (high10 - low10)) * (tall - 16) : log < 0 ? tall - 3 : 3);
  const x = (i) => left + ((i + 0.5) / nodes.length) * (w - left - right);
  draw.font = "11px sans-serif";
  draw.textAlign = "right";
  const ticks = Math.min(4, high10 - low10);
  for (let k = 0; k <= ticks; k++) {
    const at = low10 + Math.round((k * (high10 - low10)) / ticks);
    draw.fillStyle = colour("hair");
    draw.fillRect(left, y(at), w - left - right, 1);
    draw.fillStyle = colour("quiet");
    draw.fillText(`1e${at}`.replace("-", "−"), left - 6, y(at) + 4);
  }
  const paint = { parameter: colour("parameter-edge"), operation: colour("grad"), loss: colour("loss-edge") };
  const r = nodes.length > 2000 ? 1.5 : nodes.length > 300 ? 2 : 3;
  spots = sized.map((i, k) => ({ i, x: x(i), y: y(logs[k]) }));
  for (const { i, x: px, y: py } of spots) {
    draw.fillStyle = paint[nodes[i].kind];
    if (nodes[i].kind === "parameter") draw.fillRect(px - r - 0.5, py - r - 0.5, 2 * r + 1, 2 * r + 1);
    else { draw.beginPath(); draw.arc(px, py, r, 0, 7); draw.fill(); }
  }
  const spot = spots.find((q) => q.i === (state.node ?? nodeAt(state.p)));
  if (spot) { draw.strokeStyle = colour("ring"); draw.lineWidth = 2; draw.beginPath(); draw.arc(spot.x, spot.y, 6, 0, 7); draw.stroke(); }
  dots.setAttribute("aria-label", `Sizes of ${sized.length} gradients, rms from 1e${low10} to 1e${high10}`);
}
dots.addEventListener("click", (event) => {
  const far = (q) => Math.hypot(q.x - event.offsetX, q.y - event.offsetY), near = spots.reduce((a, q) => (far(q) < far(a) ? q : a), spots[0]);
  if (near && far(near) < 30) openNode(near.i);
});
$("strip").addEventListener("toggle", drawStrip);

function drawTable() {
  if (!$("all").open) return;
  const head = ["node", "kind", "operation", "shape", "value", "gradient", "rms of gradient", "takes", "box"];
  const cells = (i) => {
    const n = nodes[i];
    return [link(i), n.kind === "input" ? "constant" : n.kind, isLeaf(i) ? "" : [n.op, clean(n.params, 40)].filter(Boolean).join(" "), shapeText(n.shape), line(n.value), n.kind === "input" ? "" : gradientText(n), n.rms === null ? "" : digits(n.rms), n.parents.filter((p) => p >= 0).map(title).join(", "), pathOf(n.group).map((g) => clean(groups[g].name, 40)).join(" / ")];
  };
  $("table").replaceChildren(grid(head, nodes.map((_, i) => cells(i)), "table"));
}
$("all").addEventListener("toggle", drawTable);
