// Graphs of numbers only: recompute both passes while a leaf is dragged, and check gradients by
// nudging. Offered only if a recomputation from the recorded leaves gives the recorded numbers.

const live = (() => {
  if (nodes.length > 300 || !backwardOrder.length) return null;
  const able = nodes.every((n) => scalar(n.value) !== null && (!n.parents.length || (OPS[n.op] && n.parents.every((p) => p >= 0))));
  if (!able) return null;
  const recorded = nodes.map((n) => scalar(n.value));
  const leaves = nodes.map((_, i) => i).filter((i) => isLeaf(i));
  const args = (i, values) => nodes[i].parents.map((p) => values[p]);

  function values(leafValues) {
    const out = [...leafValues];
    for (const i of forwardOrder) out[i] = OPS[nodes[i].op].f(...args(i, out));
    return out;
  }
  const slope = (i, argument, v) => { const [a, b] = args(i, v); return OPS[nodes[i].op].d[argument](a, b, v[i]); };
  function pass(v) { // the backward pass: gradients, and every contribution with its running sum
    const grads = nodes.map(() => 0), told = [];
    grads[data.loss] = 1;
    for (const i of backwardOrder) for (const c of sent(i)) {
      const local = slope(i, c.argument, v), value = grads[i] * local;
      grads[c.node] += value;
      told.push({ c, i, local, value, total: grads[c.node] });
    }
    return { grads, told };
  }
  const tolerance = nodes.some((n) => n.dtype === "float32") ? 1e-4 : 1e-9;
  const start = values(recorded), { grads } = pass(start);
  if (!nodes.every((n, i) => close(start[i], recorded[i], tolerance) && (!reached(i) || close(grads[i], scalar(n.grad), tolerance)))) return null;

  const original = JSON.stringify([nodes, data.steps]);
  let current = [...recorded];
  function write(v) {
    const { grads: g, told } = pass(v);
    nodes.forEach((n, i) => {
      n.value = { data: v[i] };
      if (reached(i)) Object.assign(n, { grad: { data: g[i] }, norm: Math.abs(g[i]), rms: Math.abs(g[i]) });
    });
    for (const { c, i, local, value, total } of told) {
      Object.assign(c, { slope: { data: local }, value: { data: value }, total: { data: total } });
      nodes[i].flow[c.argument] = Math.abs(value);
    }
  }
  return {
    leaves,
    changed: () => leaves.some((i) => current[i] !== recorded[i]),
    value: (i) => current[i],
    set(i, x) { current[i] = x; write((current = values(current))); },
    reset() {
      const [before, steps] = JSON.parse(original);
      current = [...recorded];
      nodes.forEach((n, i) => Object.assign(n, before[i]));
      data.steps.forEach((step, k) => step.to.forEach((c, j) => Object.assign(c, steps[k].to[j])));
    },
    nudge(i) { // the central difference: (L(x + h) − L(x − h)) / 2h
      const step = 1e-5 * Math.max(1, Math.abs(current[i]));
      const at = (d) => values(current.map((x, k) => (k === i ? x + d : x)))[data.loss];
      return (at(step) - at(-step)) / (2 * step);
    },
  };
})();

// A slider and a number for a leaf; `changed` is told after every movement.
function leafControl(i, changed) {
  const x = live.value(i), reach = Math.max(1, 2 * Math.abs(x)), text = title(i);
  const set = (value, other) => {
    if (value === "" || !Number.isFinite(Number(value))) return;
    live.set(i, Number(value));
    other.value = value;
    changed();
  };
  const slider = h("input", { type: "range", min: x - reach, max: x + reach, step: "any", "aria-label": `Drag ${text}` });
  const field = h("input", { type: "number", step: "any", "aria-label": `Value of ${text}` });
  slider.value = field.value = x;
  slider.addEventListener("input", () => set(slider.value, field));
  field.addEventListener("input", () => set(field.value, slider));
  return h("div.leaf", h("span", { title: text }, text), slider, field);
}

function livePart(list, changed) {
  if (!live || !list.length) return null;
  const state_ = h("p"), nudged = h("div");
  const refresh = () => {
    state_.replaceChildren(...(live.changed() ? ["These are your numbers. ", button("Back to the recorded run", () => { live.reset(); render(); })] : ["Drag a value to recompute both passes."]));
    if (nudged.childElementCount) check();
  };
  const check = () => nudged.replaceChildren(...nudgeTable("leaf", list.map((i) => [title(i), scalar(nodes[i].grad), live.nudge(i)])));
  refresh();
  return h("div.noprint", h("h3", "Change it"), state_, list.map((i) => leafControl(i, () => { changed(); refresh(); })), say(button("Check by nudging", check)), nudged);
}
