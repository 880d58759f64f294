/** The viewer does what no viewer does, or may not do: its session ends, and no other. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}
