// Test pictures with their answers: of the unseen classes, and of a cell of the confusion matrix.

const FIRST_SHOWN = 16;

/** A picture with its true class, its answer and the score; `describe` fills in the words. */
function pictureTile(file) {
  const picture = element("img");
  picture.src = `data:image/jpeg;base64,${content.thumbnails[file]}`;
  picture.title = file;
  const words = element("div");
  const tile = element("li");
  tile.append(picture, words);
  return {
    tile,
    describe({ label, answer, score }, classes) {
      const [name, said] = [classes[label], classes[answer]].map((item) => item.name);
      const right = label === answer;
      picture.alt = right ? `${name}, answered right` : `${name}, answered ${said}`;
      tile.className = right ? "right" : "wrong";
      words.replaceChildren(element("strong", name),
        element("div", right ? "right" : `answered ${said} (${classes[answer].seen ? "seen" : "unseen"})`),
        element("div", `score ${Number(score.toPrecision(3))}`, "quiet"));
    },
  };
}

/** Fill a list with tiles, the first of them at once and all on demand. */
function fillTiles(list, button, tiles, all) {
  list.replaceChildren(...(all ? tiles : tiles.slice(0, FIRST_SHOWN)));
  button.hidden = all || tiles.length <= FIRST_SHOWN;
  button.textContent = `Show all ${tiles.length}`;
}

/** What shows the pictures of a run; `answers` of `answersOf`. */
function galleryView(gallery, answers, classes) {
  const tiles = gallery.rows.map((row, i) => ({ row, file: gallery.files[i], ...pictureTile(gallery.files[i]) }));
  const all = { wrong: false, right: false };
  const k = classes.length;

  /** How many rows of the chosen unseen classes are answered right, and how many wrong. */
  function totals(counts, wanted) {
    const sums = { wrong: 0, right: 0 };
    for (const [cell, rows] of counts) {
      const [c, answer] = [Math.floor(cell / k), cell % k];
      if (!classes[c].seen && (wanted < 0 || c === wanted)) sums[answer === c ? "right" : "wrong"] += rows;
    }
    return sums;
  }

  function show(gamma, counts) {
    const wanted = Number(at("gallery-class").value);
    const found = { wrong: [], right: [] };
    for (const { row, tile, describe } of tiles) {
      const said = answers.at(row, gamma);
      if (classes[said.label].seen || (wanted >= 0 && said.label !== wanted)) continue;
      describe(said, classes);
      found[said.label === said.answer ? "right" : "wrong"].push(tile);
    }
    const sums = totals(counts, wanted);
    for (const [which, title] of [["wrong", "Mistakes"], ["right", "Right answers"]]) {
      const [here, known] = [found[which].length, sums[which]];
      at(`gallery-${which}-heading`).textContent = `${title}: ${here}${here < known ? ` of ${known}` : ""}`;
      fillTiles(at(`gallery-${which}`), at(`gallery-${which}-all`), found[which], all[which]);
      at(`gallery-${which}-all`).onclick = () => {
        all[which] = true;
        show(gamma, counts);
      };
    }
  }

  at("gallery-note").textContent = tiles.length < answers.rows
    ? `${tiles.length} of the ${answers.rows} test pictures are on this page, whose size is limited.`
    : `All ${answers.rows} test pictures are on this page, those of seen classes in the cells of the confusion matrix.`;
  at("gallery-class").replaceChildren(new Option("all unseen classes", "-1"),
    ...classes.flatMap(({ name, seen }, c) => (seen ? [] : [new Option(name, String(c))])));
  return {
    show,
    /** The pictures of a true class with an answer, in a list of their own. */
    showCell(row, column, gamma, counts) {
      const places = tiles.filter((item) => {
        const { label, answer } = answers.at(item.row, gamma);
        return label === row && answer === column;
      });
      const rows = counts.get(k * row + column) ?? 0;
      const answered = row === column ? "answered right" : `answered ${classes[column].name}`;
      const here = rows ? `${places.length} of ${rows} pictures are here` : "no test picture";
      at("cell-note").textContent = `${classes[row].name}, ${answered}: ${here}.`;
      at("cell-pictures").replaceChildren(...places.map((item) => {
        const { tile, describe } = pictureTile(item.file);
        describe(answers.at(item.row, gamma), classes);
        return tile;
      }));
    },
  };
}
