"""A small WebGL viewer of one coloured mesh, as an HTML fragment with the data inside."""

import base64

import numpy as np
import trimesh

from dreamfusion_jax.export.glb import WORLD_TO_GLTF


def viewer_html(mesh: trimesh.Trimesh) -> str:
    """Canvas, buttons and script that show a mesh (world frame, vertex colours).

    Nothing is loaded from elsewhere. Drag to turn, wheel or pinch to come nearer.
    """
    vertices = trimesh.transform_points(mesh.vertices, WORLD_TO_GLTF)
    low, high = vertices.min(0), vertices.max(0)
    half = 0.5 * max(float(np.linalg.norm(high - low)), 1e-9)
    unit = (vertices - 0.5 * (low + high)) / half
    normals = mesh.vertex_normals @ WORLD_TO_GLTF[:3, :3].T
    data = {
        "POSITIONS": np.rint(unit * 32767).astype("<i2"),
        "NORMALS": _four(np.rint(normals * 127).astype(np.int8)),
        "COLOURS": _four(np.asarray(mesh.visual.vertex_colors)[:, :3].astype(np.uint8)),
        "FACES": mesh.faces.astype("<u4"),
    }
    page = _FRAGMENT
    for name, array in data.items():
        page = page.replace(f"${name}$", base64.b64encode(array.tobytes()).decode())
    return page


def _four(array: np.ndarray) -> np.ndarray:
    # Three bytes a vertex would not be aligned.
    return np.pad(array, [(0, 0), (0, 1)])


_FRAGMENT = """
<div class="viewer">
<canvas id="mesh" tabindex="0" aria-label="the object in three dimensions"></canvas>
<div class="modes" id="modes">
<button data-mode="0" class="on">lit</button><button data-mode="1">colour</button>
<button data-mode="2">clay</button><button data-mode="3">normals</button></div></div>
<script>
(() => {
const canvas = document.getElementById("mesh");
const gl = canvas.getContext("webgl", {antialias: true, alpha: true, premultipliedAlpha: true});
if (!gl || !gl.getExtension("OES_element_index_uint")) {
  canvas.replaceWith("This browser has no WebGL: open mesh.glb in another viewer."); return;
}
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const upload = (target, text) => {
  const data = bytes(text);
  gl.bindBuffer(target, gl.createBuffer());
  gl.bufferData(target, data, gl.STATIC_DRAW);
  return data.length;
};
const program = gl.createProgram();
const add = (type, source) => {
  const shader = gl.createShader(type);
  gl.shaderSource(shader, source); gl.compileShader(shader); gl.attachShader(program, shader);
};
add(gl.VERTEX_SHADER, `
attribute vec3 position, normal, colour; uniform mat4 view; uniform vec2 lens;
varying vec3 n, c, p, w;
void main() {
  vec4 q = view * vec4(position, 1.0);
  p = q.xyz; n = mat3(view) * normal; w = normal; c = colour;
  gl_Position = vec4(q.xy * lens, -1.002 * q.z - 0.2, -q.z);
}`);
add(gl.FRAGMENT_SHADER, `
precision highp float; varying vec3 n, c, p, w; uniform int mode;
void main() {
  vec3 unit = normalize(n), light = normalize(vec3(-0.5, 0.8, 1.0) - 0.3 * p);
  float shade = 0.35 + 0.65 * max(dot(unit, light), 0.0);
  vec3 rgb = mode == 0 ? c * (0.35 + 0.85 * shade) : mode == 1 ? c
    : mode == 2 ? vec3(0.86) * shade : 0.5 + 0.5 * normalize(vec3(w.z, w.x, w.y));
  gl_FragColor = vec4(rgb, 1.0);
}`);
gl.linkProgram(program); gl.useProgram(program);
const attribute = (name, text, size, type) => {
  upload(gl.ARRAY_BUFFER, text);
  const at = gl.getAttribLocation(program, name);
  if (at < 0) return;
  gl.enableVertexAttribArray(at);
  gl.vertexAttribPointer(at, 3, type, true, size, 0);
};
attribute("position", "$POSITIONS$", 6, gl.SHORT);
attribute("normal", "$NORMALS$", 4, gl.BYTE);
attribute("colour", "$COLOURS$", 4, gl.UNSIGNED_BYTE);
const count = upload(gl.ELEMENT_ARRAY_BUFFER, "$FACES$") / 4;
gl.enable(gl.DEPTH_TEST);
let azimuth = 0.5, elevation = 0.25, distance = 3.4, mode = 0, spinning = true, dirty = true;
const draw = () => {
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  const height = Math.round(canvas.clientHeight * devicePixelRatio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width; canvas.height = height; dirty = true;
  }
  if (spinning) { azimuth += 0.006; dirty = true; }
  if (dirty) {
    dirty = false;
    const [ca, sa, ce, se] = [azimuth, elevation].flatMap(a => [Math.cos(a), Math.sin(a)]);
    // Columns of the rotation: right, up and backward; then the camera's distance.
    const view = [ca, -se * sa, ce * sa, 0, 0, ce, se, 0, -sa, -se * ca, ce * ca, 0,
      0, 0, -distance, 1];
    const zoom = 2.6 * Math.min(1, width / height);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "view"), false, view);
    gl.uniform2f(gl.getUniformLocation(program, "lens"), zoom * height / width, zoom);
    gl.uniform1i(gl.getUniformLocation(program, "mode"), mode);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
  }
  requestAnimationFrame(draw);
};
const fingers = new Map();
const gap = () => {
  const [a, b] = [...fingers.values()];
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
};
const nearer = factor => {
  distance = Math.min(8, Math.max(1.3, distance * factor)); dirty = true;
};
canvas.onpointerdown = e => {
  canvas.setPointerCapture(e.pointerId); spinning = false;
  fingers.set(e.pointerId, [e.clientX, e.clientY]);
};
canvas.onpointerup = canvas.onpointercancel = e => fingers.delete(e.pointerId);
canvas.onpointermove = e => {
  const old = fingers.get(e.pointerId);
  if (!old) return;
  const before = fingers.size === 2 ? gap() : 0;
  fingers.set(e.pointerId, [e.clientX, e.clientY]);
  if (fingers.size === 2) { nearer(before / Math.max(gap(), 1)); return; }
  azimuth -= (e.clientX - old[0]) * 0.01;
  elevation = Math.min(1.55, Math.max(-1.55, elevation + (e.clientY - old[1]) * 0.01));
  dirty = true;
};
canvas.onwheel = e => { e.preventDefault(); nearer(Math.exp(e.deltaY * 0.001)); };
for (const button of document.getElementById("modes").children) button.onclick = () => {
  mode = +button.dataset.mode; dirty = true;
  for (const other of button.parentNode.children) other.classList.toggle("on", other === button);
};
draw();
})();
</script>
"""
