// COCO run-length masks (github.com/cocodataset/cocoapi, maskApi.c) in the browser.

/** Runs of a compressed COCO string: lengths of zeros and ones in turn, column by column. */
export function runs(counts) {
  const found = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const bits = counts.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
      more = (bits & 32) !== 0;
      if (!more && bits & 16 && shift < 32) value |= -1 << shift;
    }
    // From the fourth run on, the difference to the run two before is written.
    if (found.length > 2) value += found[found.length - 2];
    found.push(value);
  }
  return found;
}

/** Uint8Array of height x width, row by row, 1 inside the mask. */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(height * width);
  let at = 0, inside = false;
  for (const run of runs(counts)) {
    if (inside) {
      for (let k = at; k < at + run; k++) mask[(k % height) * width + Math.floor(k / height)] = 1;
    }
    at += run;
    inside = !inside;
  }
  return mask;
}
