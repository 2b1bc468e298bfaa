// Where the reader is, how they move, and keeping the whole page in step with it.

const state = { p: LAST, node: null, playing: 0 };
const places_ = (p) => { const i = nodeAt(p); return i === null ? null : hider(i); };
// A closed box is passed in one step: on to the last position inside it, or to before the first.
function ahead(p) {
  let q = Math.min(p + 1, LAST);
  while (q < LAST && places_(q) !== null && places_(q) >= 0 && places_(q + 1) === places_(q) && phaseAt(q + 1) === phaseAt(q)) q++;
  return q;
}
function behind(p) {
  let q = p;
  while (q > 0 && places_(q) !== null && places_(q) >= 0 && places_(q - 1) === places_(q) && phaseAt(q - 1) === phaseAt(q)) q--;
  return Math.max(q - 1, 0);
}

function phrase(p) {
  return { start: "before the forward pass", forward: `forward → ${p} of ${F}`, backward: `← backward ${p - F} of ${LAST - F - 1}`, complete: `complete: ${count(LAST - 1, "step")}` }[phaseAt(p)] + (live?.changed() ? " (your numbers)" : "");
}
function render(scroll = true) {
  const { p, node } = state, current = nodeAt(p), focus = node ?? current;
  const near = node !== null ? [] : phaseAt(p) === "backward" && current !== null ? sent(current).map((c) => c.node) : current !== null ? nodes[current].parents.filter((q) => q >= 0) : [];
  updateGraph(p, focus, near);
  const content = h("div"), update = () => { updateGraph(p, focus, near); fill(); drawStrip(); tell(); };
  const tell = () => { $("slider").setAttribute("aria-valuetext", phrase(p)); $("phase").textContent = phrase(p); };
  const fill = () => {
    const parts = node !== null ? nodePart(node, p) : current === null ? overview(p) : stepPart(p);
    content.replaceChildren(...present(parts));
  };
  fill();
  const inside = $("panel").contains(document.activeElement);
  const leaves = !live ? [] : node !== null ? live.leaves.filter((i) => i === node) : current === null && p === LAST ? live.leaves.slice(0, 12) : [];
  const back = node === null ? null : h("p.noprint", button("Back to the steps (Esc)", close_));
  $("panel").replaceChildren(...present([back, content, livePart(leaves, update)]));
  if (scroll) $("panel").scrollTop = 0;
  if (inside) $("panel").focus({ preventScroll: true }); // what had the focus is gone
  $("slider").value = p;
  tell();
  $("phase").className = phaseAt(p);
  $("first").disabled = $("back").disabled = p === 0;
  $("last").disabled = $("forward").disabled = p === LAST;
  drawStrip();
  if (scroll) show(focus ?? (p === 0 ? forwardOrder[0] : data.loss));
}

function remember() { // deep links; a sandboxed frame may forbid them
  try { history.replaceState(null, "", state.node !== null ? `#node=${state.node}` : `#step=${state.p}`); } catch { /* no address */ }
  const i = state.node ?? nodeAt(state.p);
  const about = i === null ? "" : state.node === null && phaseAt(state.p) === "backward" ? `: ${title(i)}, ${gradientAt(i, state.p)}` : `: ${title(i)} = ${line(nodes[i].value)}`;
  $("live").textContent = state.node !== null ? `${title(i)} opened` : phrase(state.p) + about;
}
function go(p, keepPlaying = false) {
  if (!keepPlaying) pause();
  Object.assign(state, { p: Math.max(0, Math.min(LAST, p)), node: null });
  render();
  remember();
}
function openNode(i) {
  pause();
  const hidden = cardOf(i).every((key) => key.startsWith("g"));
  if (hidden) reveal(i);
  state.node = i;
  if (hidden) drawGraph();
  render();
  remember();
}
function close_() {
  const was = state.node;
  state.node = null;
  render(false);
  remember();
  if (was !== null) picture.cards.get(cardOf(was)[0])?.element.focus({ preventScroll: true });
}
function toggle(g) {
  if (open.has(g)) open.delete(g);
  else open.add(g);
  drawGraph();
  render(false);
  document.querySelector(`[data-key="${open.has(g) ? KEY.box(g) : KEY.fold(g)}"]`)?.focus();
  $("live").textContent = `${clean(groups[g].name)} ${open.has(g) ? "opened" : "closed"}`;
}

const label = (icon, text) => $("play").replaceChildren(h("span", { "aria-hidden": "true" }, icon), text);
function pause() {
  clearInterval(state.playing);
  state.playing = 0;
  label("▶ ", "Play");
}
function play() {
  if (state.playing) return pause();
  if (state.p === LAST) go(0);
  state.node = null;
  state.playing = setInterval(() => {
    go(ahead(state.p), true);
    if (state.p === LAST) pause();
  }, 1100);
  label("❚❚ ", "Pause");
}

// Finding: names and operations; Enter walks through what was found.
let found = { text: "", list: [], at: -1 };
function search() {
  const text = $("find").value.trim().toLowerCase();
  if (!text) return;
  if (text !== found.text) {
    const says = (i) => [nodes[i].name, nodes[i].op, labels[i], symbol(nodes[i])].some((t) => t && String(t).toLowerCase().includes(text));
    found = { text, list: nodes.map((_, i) => i).filter(says), at: -1 };
  }
  found.at = found.list.length ? (found.at + 1) % found.list.length : -1;
  if (found.at >= 0) openNode(found.list[found.at]);
  $("live").textContent = found.at < 0 ? "nothing found" : `${found.at + 1} of ${found.list.length}: ${title(found.list[found.at])}`;
  $("find").setAttribute("aria-invalid", String(found.at < 0));
}

function keys(event) {
  const target = event.target, typing = target.tagName === "INPUT" && target.id !== "slider";
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (target.id === "find") { target.value = ""; target.blur(); }
    if (state.node !== null) close_();
    return;
  }
  if (target.id === "find" && event.key === "Enter") return search();
  if (typing) return;
  const folded = target.closest?.('[role="button"]');
  const act = {
    ArrowRight: () => go(ahead(state.p)), ArrowLeft: () => go(behind(state.p)), Home: () => go(0), End: () => go(LAST),
    "/": () => $("find").focus(), " ": folded || /^(BUTTON|SUMMARY)$/.test(target.tagName) ? null : play,
  }[event.key] || (folded && (event.key === "Enter" || event.key === " ") ? () => folded.dispatchEvent(new MouseEvent("click")) : null);
  if (!act) return;
  event.preventDefault();
  act();
}

function visit() { // a deep link
  const [, what, number] = /^#(step|node)=(\d+)$/.exec(location.hash) || [];
  if (what === "node" && nodes[number]) openNode(Number(number));
  else if (what === "step") go(Number(number));
}
{
  const parameters = nodes.filter((n) => n.kind === "parameter").length;
  $("title").textContent = clean(data.title);
  $("summary").textContent = `${count(nodes.length, "node")}, ${count(parameters, "parameter")}`;
  $("slider").max = LAST;
  for (const [id, act] of Object.entries({
    first: () => go(0), back: () => go(behind(state.p)), play, forward: () => go(ahead(state.p)), last: () => go(LAST),
    fit: () => zoom(picture.scale === picture.fitted ? 1 : picture.fitted),
    theme: () => {
      const root = document.documentElement, now = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
      root.style.colorScheme = now === "dark" ? "light" : "dark";
      drawStrip();
    },
  })) $(id).addEventListener("click", act);
  $("slider").addEventListener("input", () => go(Number($("slider").value)));
  addEventListener("keydown", keys);
  addEventListener("hashchange", visit);
  addEventListener("resize", drawStrip);
  pause();
  if (nodes.length > 60) $("strip").open = true;
  drawGraph();
  render();
  visit();
}
