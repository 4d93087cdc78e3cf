"""The columns of the Ames file that the project uses: the file's name, the schema's name, kind and description."""

from __future__ import annotations

from phaseflow import Column

NUMBERS = {
    "Lot Frontage": ("lot_frontage", "feet of street along the plot"),
    "Lot Area": ("lot_area", "square feet"),
    "Overall Qual": ("overall_qual", "material and finish, 1 to 10"),
    "Overall Cond": ("overall_cond", "condition, 1 to 10"),
    "Year Built": ("year_built", ""),
    "Year Remod/Add": ("year_remodelled", ""),
    "Mas Vnr Area": ("masonry_area", "square feet of veneer"),
    "BsmtFin SF 1": ("basement_finished_area", "square feet"),
    "Bsmt Unf SF": ("basement_unfinished_area", "square feet"),
    "Total Bsmt SF": ("basement_area", "square feet"),
    "1st Flr SF": ("first_floor_area", "square feet"),
    "2nd Flr SF": ("second_floor_area", "square feet"),
    "Gr Liv Area": ("living_area", "square feet above ground"),
    "Bsmt Full Bath": ("basement_baths", ""),
    "Full Bath": ("full_baths", ""),
    "Half Bath": ("half_baths", ""),
    "Bedroom AbvGr": ("bedrooms", ""),
    "Kitchen AbvGr": ("kitchens", ""),
    "TotRms AbvGrd": ("rooms", ""),
    "Fireplaces": ("fireplaces", ""),
    "Garage Yr Blt": ("garage_year", ""),
    "Garage Cars": ("garage_cars", "cars that fit"),
    "Garage Area": ("garage_area", "square feet"),
    "Wood Deck SF": ("wood_deck_area", "square feet"),
    "Open Porch SF": ("open_porch_area", "square feet"),
    "3Ssn Porch": ("three_season_porch_area", "square feet"),
    "Screen Porch": ("screen_porch_area", "square feet"),
    "Mo Sold": ("month_sold", ""),
    "Yr Sold": ("year_sold", ""),
}

WORDS = {
    "MS SubClass": ("dwelling", "type of dwelling, a code"),
    "MS Zoning": ("zoning", ""),
    "Alley": ("alley", "paving of the alley, where there is one"),
    "Lot Shape": ("lot_shape", ""),
    "Land Contour": ("land_contour", ""),
    "Lot Config": ("lot_config", ""),
    "Neighborhood": ("neighborhood", ""),
    "Condition 1": ("condition", "nearness to a road or railway"),
    "Bldg Type": ("building", ""),
    "House Style": ("style", ""),
    "Roof Style": ("roof", ""),
    "Exterior 1st": ("exterior", ""),
    "Mas Vnr Type": ("masonry", ""),
    "Exter Qual": ("exterior_quality", "Po, Fa, TA, Gd, Ex"),
    "Foundation": ("foundation", ""),
    "Bsmt Qual": ("basement_quality", "Po, Fa, TA, Gd, Ex"),
    "Bsmt Exposure": ("basement_exposure", ""),
    "BsmtFin Type 1": ("basement_finish", ""),
    "Heating QC": ("heating_quality", "Po, Fa, TA, Gd, Ex"),
    "Central Air": ("central_air", "Y or N"),
    "Kitchen Qual": ("kitchen_quality", "Po, Fa, TA, Gd, Ex"),
    "Functional": ("functional", ""),
    "Fireplace Qu": ("fireplace_quality", "Po, Fa, TA, Gd, Ex"),
    "Garage Type": ("garage", ""),
    "Garage Finish": ("garage_finish", ""),
    "Pool QC": ("pool_quality", "where there is a pool"),
    "Fence": ("fence", "where there is one"),
    "Misc Feature": ("extra", "an elevator, a shed, a tennis court"),
    "Sale Type": ("sale_type", ""),
    "Sale Condition": ("sale_condition", ""),
}

FEATURES = (
    *(
        Column(name=name, kind="number", nullable=True, minimum=0, maximum=1_000_000, description=text)
        for name, text in NUMBERS.values()
    ),
    *(Column(name=name, kind="category", nullable=True, description=text) for name, text in WORDS.values()),
)
