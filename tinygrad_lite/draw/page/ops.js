// Elementwise operations: value and derivatives as the engine's table has them. Used to recompute
// scalar graphs while a leaf is dragged, and to write out the arithmetic of small arrays. Nothing
// from here is shown unless it reproduces the engine's numbers (see `live` and `arithmetic`).

const half = (a, b) => (a > b) + (a === b) / 2;
const OPS = {
  add: { f: (a, b) => a + b, d: [() => 1, () => 1] },
  subtract: { f: (a, b) => a - b, d: [() => 1, () => -1] },
  multiply: { f: (a, b) => a * b, d: [(a, b) => b, (a) => a] },
  divide: { f: (a, b) => a / b, d: [(a, b) => 1 / b, (a, b) => -a / (b * b)] },
  power: { f: (a, b) => a ** b, d: [(a, b) => b * a ** (b - 1), (a, b, out) => out * Math.log(a)] },
  negative: { f: (a) => -a, d: [() => -1] },
  exp: { f: Math.exp, d: [(a, _, out) => out] },
  log: { f: Math.log, d: [(a) => 1 / a] },
  tanh: { f: Math.tanh, d: [(a, _, out) => 1 - out * out] },
  sqrt: { f: Math.sqrt, d: [(a, _, out) => 1 / (2 * out)] },
  square: { f: (a) => a * a, d: [(a) => 2 * a] },
  sin: { f: Math.sin, d: [Math.cos] },
  cos: { f: Math.cos, d: [(a) => -Math.sin(a)] },
  absolute: { f: Math.abs, d: [Math.sign] },
  maximum: { f: Math.max, d: [half, (a, b) => half(b, a)] },
  minimum: { f: Math.min, d: [(a, b) => half(b, a), half] },
  relu: { f: (a) => Math.max(a, 0), d: [(a) => Number(a > 0)] },
  sigmoid: { f: (a) => 1 / (1 + Math.exp(-a)), d: [(a, _, out) => out * (1 - out)] },
};
const close = (a, b, tolerance) => a === b || Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b), 1e-6) || (a !== a && b !== b);

// The flat index in an argument of shape `shape` that broadcasting shows at entry `o` of `outShape`.
function broadcastIndex(o, outShape, shape) {
  let index = 0, stride = 1;
  for (let k = 1; k <= outShape.length; k++) {
    const n = outShape[outShape.length - k], m = shape[shape.length - k];
    const at = o % n;
    o = Math.floor(o / n);
    if (m === undefined) continue;
    index += (m === 1 ? 0 : at) * stride;
    stride *= m;
  }
  return index;
}

// The local derivative of an elementwise step at every entry of its result; null if not known.
function slopes(i, argument) {
  const node = nodes[i], op = OPS[node.op], out = entries(node.value);
  if (!op || !op.d[argument] || !out) return null;
  const args = node.parents.map((p) => p >= 0 && entries(nodes[p].value));
  if (args.some((a) => !a)) return null;
  return out.map((x, o) => op.d[argument](...[0, 1].map((k) => (args[k] ? args[k][broadcastIndex(o, node.shape, nodes[node.parents[k]].shape)] : undefined)), x));
}
