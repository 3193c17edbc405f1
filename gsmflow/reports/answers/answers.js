// A page of answers: each picture or row with its best classes.

const plural = (count, one) => `${count} ${one}${count === 1 ? "" : "s"}`;
const thing = content.named_by === "file" ? "picture" : "row";

function sureness(score, probability) {
  return probability === null ? `score ${Number(score.toPrecision(4))}` : `${fixed(100 * probability)} %`;
}

function answerLine({ name, kind, score, probability, bar }) {
  const line = element("li", element("strong", name), kind ?? "none");
  if (kind === null) return line;
  line.append(` (${kind}) `, element("span", sureness(score, probability), "quiet"));
  const [track, fill] = [element("div", undefined, "track"), element("div", undefined, "fill")];
  fill.style.width = `${100 * bar}%`;
  track.append(fill);
  line.append(track);
  return line;
}

function rowTile({ name, answers, picture }) {
  const tile = element("li");
  if (picture) {
    const shown = element("img");
    shown.src = `data:image/jpeg;base64,${picture}`;
    shown.alt = `Picture ${name}`;
    tile.append(shown);
  }
  const said = element("div", element("h3", name), "answer-list");
  const list = element("ol");
  list.append(...answers.map(answerLine));
  said.append(list);
  tile.append(said);
  return { tile, kind: answers[0].kind ?? "none", name: [name, answers[0].name].join(" ").toLowerCase() };
}

const tiles = content.rows.map(rowTile);

function showRows() {
  const [kind, wanted] = [at("kind").value, at("filter").value.toLowerCase()];
  const found = tiles.filter((item) => (kind === "all" || item.kind === kind) && item.name.includes(wanted));
  at("rows").replaceChildren(...found.map(({ tile }) => tile));
  const all = content.seen + content.unseen + content.rejected;
  const here = tiles.length < all
    ? ` The first ${tiles.length} of ${all} are on this page, whose size is limited.` : "";
  at("shown").textContent = `${plural(found.length, thing)}.${here}`;
}

function showWords() {
  const { seen, unseen, rejected, sentences } = content;
  const total = element("strong", `${plural(seen + unseen + rejected, thing)}`);
  const first = element("li", total);
  first.append(`: ${seen} answered with a class that was seen in training, ${unseen} with an unseen one`);
  first.append(rejected ? `, ${rejected} with none of these.` : ".");
  at("kind-none").hidden = !rejected;
  at("says").replaceChildren(first, ...sentences.map((text) => element("li", text)));
  at("bars").textContent = content.bars;
}

at("title").textContent = `Answers by ${content.model} on ${content.dataset}`;
at("subtitle").textContent = `Run ${content.run}, ${content.decision}`;
for (const id of ["kind", "filter"]) at(id).oninput = showRows;
showWords();
showRows();
prepareTheme(() => {});
