// Work for the screen, a piece in each frame: no task is so long that it keeps a person's click or key waiting.

const LATEST = 200; // milliseconds: a page that is hidden has no frames

let last = Promise.resolve();

const frame = () =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, document.hidden ? 0 : LATEST);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      setTimeout(resolve); // behind what this frame draws
    });
  });

/** Resolves in a task of its own, when all who asked before have had theirs and it was drawn. */
export const turn = () => (last = last.then(frame));

/** Do one piece after the other, each in its turn, for as long as `isWanted()`. */
export async function inTurn(pieces, isWanted = () => true) {
  for (const piece of pieces) {
    await turn();
    if (!isWanted()) return;
    await piece();
  }
}
