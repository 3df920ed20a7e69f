// What each score says, in a sentence (docs/metrics.md defines them).
const sentences: Record<string, string> = {
  clip_i: "How alike generated and training pictures are: the mean cosine of their CLIP embeddings over all pairs. It rises, too, when training pictures are memorised: look at CLIP-T beside it.",
  clip_t: "How well generated pictures follow the text: the mean cosine of their CLIP embeddings with the text's.",
  clip_fid: "How far the generated pictures, as a set, are from the training pictures: Fréchet distance on CLIP's features. Smaller is better; with few pictures it is biased upward, so compare at equal counts only.",
  clip_kid: "How far the generated pictures, as a set, are from the training pictures: kernel distance on CLIP's features, unbiased for few pictures. Smaller is better; it may be a little below 0.",
  clip_nearest: "The mean cosine of each generated picture with the training picture nearest to it. Near 1: copies.",
  clip_diversity: "How different the generated pictures of one prompt are: 1 less their mean cosine. Near 0: all the same.",
  clip_precision: "Share of generated pictures that lie among the training pictures (k-nearest-neighbour balls in CLIP's features): realism.",
  clip_recall: "Share of training pictures that lie among the generated ones: coverage.",
  clip_pres: "How much the subject has taken over its class: the mean cosine of pictures of the class prompt with the training pictures. Smaller is better; read it beside the untuned base's.",
  clip_div: "How different pictures of the class prompt are: 1 less their mean cosine. It falls when all of the class become alike.",
  noise_difference: "How much the tuned model's predicted noise changes when the identifier stands in the prompt. Near 0: it does not hear the word.",
  dino_i: "As CLIP-I, by a self-supervised vision transformer, which tells a subject from others of its class better than CLIP does.",
  fid: "How far the generated pictures, as a set, are from the training pictures: Fréchet distance on Inception's features. Smaller is better; compare at equal counts, network and resizing only.",
  kid: "As FID, by a kernel distance that is unbiased for few pictures. Smaller is better.",
  precision: "Share of generated pictures that lie among the training pictures in Inception's features: realism.",
  recall: "Share of training pictures that lie among the generated ones in Inception's features: coverage.",
  loss: "The training loss: the squared error of the predicted noise over a batch. It is noisy, as each step draws other timesteps.",
  validation_loss: "The loss on fixed pictures, noise and timesteps, the same for all cells of a replicate: comparable between trials.",
};

export function sentenceOfScore(name: string): string {
  if (name.endsWith("_base")) return `The untuned base's, from the same prompts and noise. ${sentenceOfScore(name.slice(0, -5))}`;
  const of = (stem: string, instead: string) => `As ${stem.replace("_", "-").toUpperCase()}, ${instead}. ${sentences[stem]}`;
  if (sentences[name]) return sentences[name];
  if (name.endsWith("_sd")) return "The spread of the kernel distance over its random subsets.";
  if (name.endsWith("_class") && sentences[name.slice(0, -6)]) return of(name.slice(0, -6), "against the class pictures in place of the training pictures");
  if (name.startsWith("dino_") && sentences["clip_" + name.slice(5)]) return of("clip_" + name.slice(5), "in the features of a self-supervised vision transformer");
  return "docs/metrics.md defines it.";
}
