// What this browser is asked to remember. Where storage is forbidden, choices last as long as the page.

export function recall(name) {
  try {
    return localStorage.getItem(`chunkdl.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`chunkdl.${name}`, value);
  } catch {
    // forbidden by the browser's settings, or full
  }
}
