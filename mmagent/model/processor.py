"""From messages and pictures to the network's inputs. It knows token counts and pixels, nothing of weights."""

from __future__ import annotations

from typing import Any

from transformers.processing_utils import MultiModalData, ProcessorMixin

from mmagent.model.configuration import MMAgentConfig


class MMAgentProcessor(ProcessorMixin):
    """Tokenizer and image processor as one; each picture becomes ``image_seq_length`` placeholder tokens.

    Args:
        image_processor: Turns pictures into ``pixel_values`` of a fixed size.
        tokenizer: Has the chat template and the token ``image_token``.
        image_seq_length: Tokens per picture, `MMAgentConfig.image_seq_length`.
    """

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012 - transformers' own form
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        image_seq_length: int = 16,
        image_token: str = "<|image|>",
        **kwargs: Any,
    ) -> None:
        self.image_seq_length = image_seq_length
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)  # type: ignore[no-untyped-call]

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        """The text that stands for one picture."""
        return self.image_token * self.image_seq_length

    def _get_num_multimodal_tokens(self, image_sizes: Any = None, **_: Any) -> MultiModalData:
        count = len(image_sizes) if image_sizes is not None else 0
        return MultiModalData(num_image_tokens=[self.image_seq_length] * count, num_image_patches=[1] * count)


def build_processor(tokenizer: Any, config: MMAgentConfig) -> MMAgentProcessor:
    """The processor of a network: pictures squeezed to its square, pixels to [-1, 1]."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    side = int(config.vision_config.image_size)
    return MMAgentProcessor(
        SiglipImageProcessorPil(size={"height": side, "width": side}),
        tokenizer,
        chat_template=tokenizer.chat_template,
        image_seq_length=config.image_seq_length,
    )
