/** Takes the exit status that a command ends with; where none is set, it is 0. */
export type SetStatus = (status: number) => void;
