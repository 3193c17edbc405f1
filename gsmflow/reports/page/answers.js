// What a run answered: every test row's answer at any calibration factor gamma.

/** Numbers that were packed as base64, to the same bits. */
function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  const width = { Uint16: 2, Int32: 4, Float32: 4, Float64: 8 }[packed.type];
  const view = new DataView(bytes.buffer);
  const values = new globalThis[`${packed.type}Array`](bytes.length / width);
  for (let i = 0; i < values.length; i++) values[i] = view[`get${packed.type}`](i * width, true);
  return values;
}

/** The test rows of a run and what it answers each at a gamma; null where their scores are not known. */
function answersOf(part) {
  if (!part.answers) return null;
  const [labels, seen, unseen, seenScores, unseenScores] = [
    "labels", "seen", "unseen", "seen_scores", "unseen_scores",
  ].map((name) => unpack(part.answers[name]));
  return {
    rows: labels.length,
    at(row, gamma) {
      const lowered = seenScores[row] - gamma;
      // Of equal scores the seen class's counts, as it is the earlier column.
      return lowered >= unseenScores[row]
        ? { label: labels[row], answer: seen[row], score: lowered }
        : { label: labels[row], answer: unseen[row], score: unseenScores[row] };
    },
  };
}

/**
 * What gives the counts of a run at a gamma: rows of each true class with each answer, a map that
 * has the pairs that occur, by the true class times the number of classes plus the answer. Null
 * where they are not known; the same at every gamma where the scores are not.
 */
function counter(part, answers) {
  const k = part.classes ? part.classes.length : 0;
  if (answers) {
    return (gamma) => {
      const counts = new Map();
      for (let row = 0; row < answers.rows; row++) {
        const { label, answer } = answers.at(row, gamma);
        const cell = k * label + answer;
        counts.set(cell, (counts.get(cell) ?? 0) + 1);
      }
      return counts;
    };
  }
  if (!part.counts) return null;
  const [cells, rows] = ["cells", "rows"].map((name) => unpack(part.counts[name]));
  const counts = new Map(Array.from(cells, (cell, i) => [cell, rows[i]]));
  return () => counts;
}

/** Accuracy of each class as a fraction of 1, null where it has no rows. */
function classAccuracies(counts, k) {
  const rows = new Array(k).fill(0);
  for (const [cell, count] of counts) rows[Math.floor(cell / k)] += count;
  return rows.map((all, c) => (all ? (counts.get(k * c + c) ?? 0) / all : null));
}

/** U, S and H, as fractions of 1, from the accuracy of each class. */
function measuresOf(classes, accuracies) {
  const mean = (seen) => {
    const known = accuracies.filter((value, c) => value !== null && classes[c].seen === seen);
    return known.reduce((sum, value) => sum + value, 0) / known.length;
  };
  const [U, S] = [mean(false), mean(true)];
  return { U, S, H: U + S > 0 ? (2 * U * S) / (U + S) : 0 };
}

/** Wrong answers, the most frequent first: true class, answer, rows, share of the class's rows. */
function mistakesIn(counts, classes) {
  const k = classes.length;
  const found = [];
  for (const [cell, rows] of counts) {
    const [c, answer] = [Math.floor(cell / k), cell % k];
    if (answer !== c) found.push({ c, answer, rows, share: rows / classes[c].rows });
  }
  return found.sort((a, b) => b.rows - a.rows || a.c - b.c || a.answer - b.answer);
}
