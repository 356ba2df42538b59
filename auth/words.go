package auth

// The words of anonymous names. Every list may grow or change: a name is looked
// up by nobody, it only has to be the same for the same id within one version.
var (
	adjectives = [...]string{
		"able", "agile", "airy", "alert", "ample", "apt", "avid", "awake", "bold", "brave", "breezy", "brief",
		"bright", "brisk", "calm", "candid", "careful", "cheery", "chief", "civil", "clear", "clever", "cosy", "crisp",
		"curious", "dapper", "daring", "deft", "dizzy", "dreamy", "dusty", "eager", "early", "earnest", "easy", "elated",
		"equal", "exact", "fabled", "fair", "famous", "fancy", "fast", "fine", "firm", "fleet", "fluent", "fond",
		"frank", "free", "fresh", "frosty", "gentle", "giant", "giddy", "glad", "grand", "great", "handy", "happy",
		"hardy", "hasty", "honest", "humble", "idle", "jolly", "jovial", "keen", "kind", "large", "lasting", "light",
		"likely", "little", "lively", "lofty", "loyal", "lucid", "lucky", "lunar", "merry", "mighty", "mild", "modest",
		"neat", "nimble", "noble", "novel", "odd", "open", "patient", "placid", "plucky", "polite", "prime", "prompt",
		"proud", "quick", "quiet", "rapid", "rare", "ready", "regal", "robust", "rustic", "serene", "sharp", "shiny",
		"silent", "simple", "sleepy", "smart", "smooth", "snug", "sober", "solar", "solid", "spry", "steady", "stout",
		"sturdy", "subtle", "sunny", "swift", "tender", "tidy", "tough", "upbeat", "valid", "vivid", "warm", "wise",
		"witty", "young", "zany", "zesty",
	}
	colours = [...]string{
		"amber", "aqua", "azure", "beige", "black", "blue", "bronze", "brown", "copper", "coral", "cream", "crimson",
		"cyan", "ebony", "emerald", "fawn", "gold", "green", "grey", "hazel", "indigo", "ivory", "jade", "khaki",
		"lilac", "lime", "magenta", "maroon", "mauve", "ochre", "olive", "orange", "pearl", "pink", "plum", "purple",
		"red", "rose", "ruby", "russet", "saffron", "scarlet", "sepia", "silver", "tan", "teal", "umber", "violet",
		"white", "yellow",
	}
	animals = [...]string{
		"adder", "alpaca", "ant", "antelope", "badger", "bat", "bear", "beaver", "bee", "beetle", "bison", "bobcat",
		"buffalo", "camel", "caribou", "cat", "chamois", "cheetah", "cobra", "condor", "coyote", "crab", "crane", "cricket",
		"crow", "curlew", "deer", "dingo", "dolphin", "donkey", "dove", "duck", "eagle", "eel", "egret", "elk",
		"falcon", "ferret", "finch", "fox", "frog", "gannet", "gazelle", "gecko", "gibbon", "giraffe", "goat", "goose",
		"gopher", "grouse", "gull", "hare", "hawk", "hedgehog", "heron", "hornet", "horse", "hyena", "ibex", "ibis",
		"iguana", "impala", "jackal", "jaguar", "jay", "kestrel", "kiwi", "koala", "lark", "lemur", "leopard", "lion",
		"lizard", "llama", "lobster", "lynx", "macaw", "magpie", "mallard", "marmot", "marten", "mole", "moose", "moth",
		"mouse", "mule", "newt", "ocelot", "octopus", "oriole", "osprey", "otter", "owl", "oyster", "panda", "panther",
		"parrot", "pelican", "penguin", "pigeon", "plover", "pony", "puffin", "puma", "quail", "rabbit", "raven", "robin",
		"salmon", "seal", "shark", "shrew", "skunk", "sloth", "snail", "sparrow", "squid", "stoat", "stork", "swallow",
		"swan", "tapir", "tern", "tiger", "toad", "trout", "turtle", "viper", "vole", "walrus", "weasel", "whale",
		"wolf", "wombat", "wren", "yak", "zebra",
	}
)
